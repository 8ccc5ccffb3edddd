"""``ascend-serve serve`` with vllm-ascend, on a Ray cluster of simulated NPUs.

    python -m tests.npu.serve CONFIG

serves CONFIG, sends it the batches of ``start.py``, and prints its report and its answers as JSON. It runs where
a release of vllm-ascend and its vLLM are on the path.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from ray.cluster_utils import Cluster

from ascend_serve.config import load
from tests.e2e.metrics import counters
from tests.npu.start import BATCHES, PROMPTS, TOKENS
from tests.patience import PATIENCE_SECONDS


def wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the server answers.

    Raises:
        RuntimeError: It ended, or did not answer in time.
    """
    late = time.monotonic() + PATIENCE_SECONDS
    while server.poll() is None and time.monotonic() < late:
        try:
            if httpx.get(f"{url}/graph/report", timeout=10).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"the server is not ready; its exit code is {server.poll()}")


def tokens(url: str, prompt: str) -> list[int]:
    """Greedy tokens of one prompt."""
    body = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    answer = httpx.post(f"{url}/v1/completions", json={"model": "demo", **body}, timeout=PATIENCE_SECONDS)
    told: list[int] = answer.raise_for_status().json()["choices"][0]["token_ids"]
    return told


def ask(url: str) -> dict[str, Any]:
    """The report, the answers to batches of requests that are sent together, and what was counted before and then."""
    with ThreadPoolExecutor(max(BATCHES)) as pool, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as http:
        before = counters(http)
        answers = [list(pool.map(lambda prompt: tokens(url, prompt), PROMPTS[:batch])) for batch in BATCHES]
        counted = Counter(counters(http)) - Counter(before)
        return {"report": http.get("/graph/report").json(), "tokens": answers, "before": before, "counted": counted}


def main() -> None:
    """Serve the configuration that is named on the command line, and end as with Ctrl-C."""
    config = load(sys.argv[1])
    cluster = Cluster()
    npus = config.parallel.world_size
    cluster.add_node(resources={"NPU": npus}, num_cpus=8, include_dashboard=False, object_store_memory=2**28)
    url = f"http://127.0.0.1:{config.serving.port}"
    command = [sys.executable, "-m", "ascend_serve.cli.main", "serve", sys.argv[1]]
    with subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": cluster.address}, stdout=sys.stderr) as server:
        try:
            wait_until_ready(server, url)
            told = ask(url)
        finally:
            server.send_signal(signal.SIGINT)
            code = server.wait(PATIENCE_SECONDS)
            cluster.shutdown()
    print(json.dumps({**told, "exit code": code}))


if __name__ == "__main__":
    main()

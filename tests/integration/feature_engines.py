"""Runs the engines of the table of features, one after the other, each behind vLLM's application."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.feature_models import Models
from tests.integration.feature_requests import ASKED, COUNTED, Asked, Feature, difference
from tests.integration.features import ROOT, Start, foreseen
from tests.integration.features import starts as all_starts

if TYPE_CHECKING:
    from ascend_serve.replica.openai_engine import OpenAIEngine

Answers = dict[Feature, Any]
MARK = "RESULT "
ENVIRONMENT = {
    "ASCEND_SERVE_EMULATED_NPU": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # functions are sent to the workers
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


def run(starts: Sequence[Start], models: Models) -> Iterator[tuple[Start, Feature, str]]:
    """Start engines, and those that they are compared with, in one fresh process; yield what came of each feature."""
    by_name = {start.name: start for start in starts}
    command = [sys.executable, "-m", "tests.integration.feature_engines", json.dumps([asdict(models), list(by_name)])]
    env = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(MARK):
                name, feature, what = json.loads(line.removeprefix(MARK))
                yield by_name[name], Feature(feature), what
            else:
                sys.stderr.write(line)
    if process.returncode:
        raise RuntimeError(f"the engine process ended with code {process.returncode}")


def main() -> None:
    """Run the engines that are named on the command line."""
    import ray
    from ray.cluster_utils import Cluster

    models, names = json.loads(sys.argv[1])
    cluster = Cluster()
    cluster.add_node(resources={"NPU": 2}, num_cpus=16, include_dashboard=False, object_store_memory=2**28)
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": ENVIRONMENT})
    try:
        for start, feature, what in _run([start for start in all_starts() if start.name in names], Models(**models)):
            # On a line of its own, whatever else writes to the same place.
            print(f"\n{MARK}{json.dumps([start.name, feature, what])}", flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _run(starts: Sequence[Start], models: Models) -> Iterator[tuple[Start, Feature, str]]:
    references: dict[Start, Answers] = {}
    for start in starts:
        expected = foreseen(start)
        if expected.startswith("refused"):
            yield from ((start, feature, expected) for feature in start.kind.features)
            continue
        if start.eager not in references:
            references[start.eager] = _answers(start.eager, models)[0]
        answers, replays = (references[start], {}) if start == start.eager else _answers(start, models)
        for feature in start.kind.features:
            wrong = _problem(feature, answers, references[start.eager], replays.get(feature))
            yield start, feature, wrong or expected


def _problem(feature: Feature, answers: Answers, eager: Answers, replays: list[int] | None) -> str:
    given = answers[feature]
    if isinstance(given, str):
        return given
    if not ASKED[feature].shows(given):
        return f"not used: {given}"
    if where := difference(given, eager[feature]):
        return f"DIFFERS in {where}"
    if replays is not None and (len(set(replays)) > 1 or not replays[0]):
        return f"ranks replayed {replays}"
    return ""


def _answers(start: Start, models: Models) -> tuple[Answers, dict[Feature, list[int]]]:
    """What an engine answers, and how often each rank replayed for each feature."""
    began = time.monotonic()
    try:
        return asyncio.run(_ask(start, models))
    except Exception as error:
        return dict.fromkeys(start.kind.features, f"did not start: {error}"), {}
    finally:
        print(f"{start.name}: {time.monotonic() - began:.0f} s", flush=True)


async def _ask(start: Start, models: Models) -> tuple[Answers, dict[Feature, list[int]]]:
    import ray

    from ascend_serve.replica.openai_engine import OpenAIEngine

    placement_group = ray.util.placement_group([{"NPU": 1}] * start.ranks)
    # The NPUs of the engine before come back when its workers have ended.
    await asyncio.to_thread(ray.get, placement_group.ready())
    group = f"{start.name}-{time.monotonic_ns()}"
    engine = await OpenAIEngine.start(start.config(models), start.plan(models), group, placement_group=placement_group)
    try:
        answers: Answers = {}
        replays: dict[Feature, list[int]] = {}
        before = await _replays(engine)
        for feature in start.kind.features:
            try:
                answers[feature] = await _answers_of(engine, ASKED[feature], models)
            except RuntimeError as error:
                answers[feature] = f"refused: {error}"
            after = await _replays(engine)
            replays[feature], before = [now - then for now, then in zip(after, before, strict=True)], after
        return answers, replays
    finally:
        engine.shutdown()
        ray.util.remove_placement_group(placement_group)


async def _answers_of(engine: OpenAIEngine, asked: Asked, models: Models) -> list[Any]:
    transport = httpx.ASGITransport(engine.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None) as client:
        answers = []
        for step in asked.steps:
            answers += await asyncio.gather(*(_answer(client, path, dict(body), models) for path, body in step))
        return answers


async def _answer(client: httpx.AsyncClient, path: str, body: dict[str, Any], models: Models) -> Any:
    if body.get("lora_path") == "OTHER":
        body["lora_path"] = models.other_adapter
    if path == COUNTED:
        return await _has_counted(client, body["counter"])
    response = await client.post(path, json=body)
    if response.status_code != httpx.codes.OK:
        raise RuntimeError(f"{path}: {response.status_code}: {response.text}")
    return response.json() if "json" in response.headers.get("content-type", "") else response.text


async def _has_counted(client: httpx.AsyncClient, counter: str) -> bool:
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == counter) > 0


async def _replays(engine: OpenAIEngine) -> list[int]:
    counts: list[int] = await engine.run.llm.collective_rpc(count)
    return counts


def count(worker: Any) -> int:
    """Replayed graphs of this rank, and forwards that went through Xlite; the first call starts to count."""
    from tests.integration.engines import count_replays

    xlite = worker.model_runner.xlite_model
    return count_replays(worker) + (0 if xlite is None else int(xlite.forwards))


if __name__ == "__main__":
    main()

"""The command lines and programs of README.md and docs/ that start something, as written, on emulated NPUs.

Ports and paths of the reader's machine are replaced (``Checkout.replaced``); the port of a configuration is set in it.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.checkout import Checkout, checkout
from tests.documents import text_of
from tests.e2e.command import Command
from tests.e2e.ray_head import RayHead, ray_head
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port

NPUS = 4
"""Of the cluster: a server and a job of two ranks each."""

PORT = "127.0.0.1:8000"
OP_STATISTIC = "OP Type,Core Type,Count,Total Time(us),Min Time(us),Avg Time(us),Max Time(us),Ratio(%)\n"
STATIC = "MatMulV2_static_kernel_3f1,AI_CORE,30,600.0,19,20,22,60.0\n"


def configuration(tree: Checkout, name: str, **sections: dict[str, Any]) -> None:
    """Write the demo's configuration under a name, with other values in some sections."""
    path = tree.folder / "configs" / "demo.yaml"
    demo = yaml.safe_load(path.read_text())
    changed = {section: {**demo.get(section, {}), **values} for section, values in sections.items()}
    (tree.folder / name).write_text(yaml.safe_dump({**demo, **changed}))


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, port: int) -> Checkout:
    """A clone after ``make setup``."""
    tree = checkout(tmp_path_factory.mktemp("tree"), {PORT: f"127.0.0.1:{port}"})
    configuration(tree, "configs/demo.yaml", serving={"port": port})
    configuration(tree, "configs/model.yaml")
    configuration(tree, "model.yaml")
    return tree


@contextmanager
def serving(tree: Checkout, port: int, line: str) -> Iterator[Command]:
    """A server that a line starts and Ctrl-C ends."""
    with tree.running(line) as (process, output):
        command = Command(process, output, port, tree.folder / "temporary")
        try:
            command.wait_for("curl ")
            yield command
        finally:
            command.end(signal.SIGINT)
    assert command.left_behind() == []


def report(port: int) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/graph/report", timeout=PATIENCE_SECONDS).json()
    return answer


def body(output: str) -> Any:
    """The JSON that curl wrote after its progress."""
    return json.loads(output[output.index("{") :])


def test_the_first_ten_minutes(tmp_path: Path, port: int) -> None:
    tree = checkout(tmp_path, {PORT: f"127.0.0.1:{port}"})
    configuration(tree, "configs/demo.yaml", serving={"port": port})
    with serving(tree, port, "make serve"):
        answer = tree.run(
            """curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
-d '{"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}'"""
        )
        assert body(answer)["choices"][0]["message"]["role"] == "assistant"
        assert report(port)["effective_mode"] == "FULL_DECODE_ONLY"


def test_one_npu(tree: Checkout, port: int) -> None:
    activate = ". .venv/bin/activate"
    line = "ascend-serve serve configs/demo.yaml parallel.tensor_parallel_size=1 graph.mode=FULL_AND_PIECEWISE"
    with serving(tree, port, f"{activate}\n{line}"):
        assert report(port)["effective_mode"] == "FULL_AND_PIECEWISE"
        assert report(port)["outcome"] == "graph"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "mode", "sizes"),
    [
        pytest.param(
            "ascend-serve serve configs/demo.yaml graph.mode=FULL 'graph.capture_sizes=[1, 2, 4]' vllm.max_num_seqs=8",
            "FULL",
            [1, 2, 4],
            id="mode and sizes",
        ),
        pytest.param(
            "ascend-serve serve configs/demo.yaml +site.yaml serving.port=8001",
            "FULL_DECODE_ONLY",
            [1, 2, 4, 8, 16],
            id="a second file",
        ),
    ],
)
def test_overrides(tree: Checkout, port: int, line: str, mode: str, sizes: list[int]) -> None:
    tree.replaced["serving.port=8001"] = f"serving.port={port}"
    (tree.folder / "site.yaml").write_text("serving: {host: 127.0.0.1}\n")
    with serving(tree, port, line):
        assert report(port)["effective_mode"] == mode
        assert report(port)["capture_sizes"] == sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "runtime"),
    [
        pytest.param("ascend-serve serve configs/demo.yaml graph.runtime=xlite", "xlite", id="on all ranks"),
        pytest.param(
            "ascend-serve serve configs/demo.yaml graph.runtime=xlite 'emulated.xlite.missing_on=[1]'",
            "aclgraph",
            id="missing on one",
        ),
    ],
)
def test_xlite(tree: Checkout, port: int, line: str, runtime: str) -> None:
    with serving(tree, port, line):
        assert report(port)["runtime"] == runtime


@pytest.mark.slow
def test_an_npu_that_takes_time(tree: Checkout, port: int) -> None:
    card = tree.folder / "configs" / "demo-device-time.yaml"
    card.write_text(f"{card.read_text()}\nserving:\n  port: {port}\n")
    with serving(tree, port, "ascend-serve serve configs/demo-device-time.yaml"):
        assert report(port)["capture_sizes"] == [1, 2, 4, 8, 12, 16]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        pytest.param(
            "ascend-serve serve configs/demo.yaml 'emulated.stream_quota=[2048, 6]'", "degraded", id="few streams"
        ),
        pytest.param(
            "ascend-serve serve configs/demo.yaml "
            "'emulated.faults=[{rank: 1, phase: capture, size: 8, error: unknown}]'",
            "eager",
            id="a fault",
        ),
    ],
)
def test_the_group_degrades_together(tree: Checkout, port: int, line: str, outcome: str) -> None:
    with serving(tree, port, line):
        told = report(port)
    assert told["outcome"] == outcome
    assert told["adjustments"]
    assert len({rank["graphs"] for rank in told["ranks"]}) == 1


@pytest.mark.slow
def test_a_rank_that_dies(tree: Checkout, port: int) -> None:
    ask = """curl -N http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \
-d '{"model": "demo", "prompt": "Hello", "max_tokens": 900, "ignore_eos": true, "stream": true}' &"""
    kill = (
        "kill -9 $(curl -s http://127.0.0.1:8000/graph/report | "
        """python3 -c 'import json, sys; print(json.load(sys.stdin)["ranks"][1]["pid"])')"""
    )
    with serving(tree, port, "ascend-serve serve configs/demo.yaml") as server:
        told = tree.run(f"{ask}\n{kill}\nwait")
        server.wait_for("engine died: rank 1 .*SIGKILL")
        server.wait_for("engine restarted: .*1 continued")
        assert report(port)["outcome"] == "graph"
    assert '"finish_reason":"length"' in told
    assert '"error"' not in told


@pytest.mark.slow
def test_a_file_of_requests(tree: Checkout) -> None:
    tree.run("""echo '{"prompt": "Hello", "max_tokens": 8}' > prompts.jsonl""")
    tree.run("ascend-serve generate configs/demo.yaml --input prompts.jsonl --output out.jsonl")
    (answer,) = map(json.loads, (tree.folder / "out.jsonl").read_text().splitlines())
    assert answer["usage"]["completion_tokens"] == 8


@pytest.mark.slow
def test_from_python(tree: Checkout) -> None:
    tree.python(text_of("README.md: The first ten minutes (python)"))


@pytest.mark.slow
def test_profiling(tree: Checkout, port: int, tmp_path: Path) -> None:
    tree.replaced["/tmp/profile"] = str(tmp_path)
    start = (
        "ascend-serve serve configs/demo.yaml "
        "'vllm.profiler_config={profiler: torch, torch_profiler_dir: /tmp/profile}'"
    )
    with serving(tree, port, start):
        tree.run("ascend-serve profile --url http://127.0.0.1:8000")
        of_one_request = set(tmp_path.rglob("*.json*"))
        assert of_one_request
        tree.run("ascend-serve profile --url http://127.0.0.1:8000 --seconds 10")
        assert set(tmp_path.rglob("*.json*")) > of_one_request


def test_static_kernels(tree: Checkout, tmp_path: Path) -> None:
    (tmp_path / "op_statistic.csv").write_text(OP_STATISTIC + STATIC)
    tree.replaced["PROFILE..."] = str(tmp_path)
    assert "MatMulV2_static_kernel_3f1" in tree.run("ascend-serve static-kernels PROFILE...")


@pytest.mark.slow
def test_api_keys(tree: Checkout, port: int) -> None:
    configuration(tree, "model.yaml", serving={"port": port})
    tree.run("openssl rand -hex 32 > keys && chmod 600 keys")
    with serving(tree, port, "ascend-serve serve model.yaml serving.api_key_file=keys"):
        listed = tree.run('curl -H "Authorization: Bearer $(head -1 keys)" http://127.0.0.1:8000/v1/models')
        assert body(listed)["data"][0]["id"] == "demo"
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=PATIENCE_SECONDS).status_code == 401


@pytest.mark.slow
def test_tls(tree: Checkout, port: int, tmp_path: Path) -> None:
    files = f"-keyout {tmp_path}/key.pem -out {tmp_path}/cert.pem"
    tree.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1 {files}"
    )
    tree.replaced["/tls/"] = f"{tmp_path}/"
    configuration(tree, "model.yaml", serving={"port": port})
    line = (
        "ascend-serve serve model.yaml 'serving.http_options={ssl_keyfile: /tls/key.pem, ssl_certfile: /tls/cert.pem}'"
    )
    with serving(tree, port, line), httpx.Client(verify=str(tmp_path / "cert.pem"), timeout=PATIENCE_SECONDS) as client:
        assert client.get(f"https://127.0.0.1:{port}/v1/models").json()["data"][0]["id"] == "demo"


@pytest.mark.slow
def test_several_models(tree: Checkout, port: int) -> None:
    for name in ("a", "b"):
        one = {"parallel": {"tensor_parallel_size": 1}, "emulated": {"npus": 1}}
        configuration(tree, f"{name}.yaml", model={"served_name": name}, serving={"port": port}, **one)
    line = "ascend-serve serve a.yaml serving.route_prefix=/a b.yaml serving.route_prefix=/b"
    with serving(tree, port, line) as server:
        server.wait_for("curl .*/b/")
        for name in ("a", "b"):
            models = httpx.get(f"http://127.0.0.1:{port}/{name}/v1/models", timeout=PATIENCE_SECONDS).json()
            assert models["data"][0]["id"] == name


@dataclass(frozen=True)
class Cluster:
    """A cluster, and a clone on a machine that reaches it.

    Attributes:
        head: The cluster's head node.
        tree: The clone.
        port: Where models are served.
    """

    head: RayHead
    tree: Checkout
    port: int


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head(NPUS) as head:
        yield head


@pytest.fixture
def on_cluster(head: RayHead, tree: Checkout, port: int, tmp_path: Path) -> Cluster:
    """The clone, with the cluster's names replaced; the model is the demo's."""
    configuration(tree, "configs/model.yaml", serving={"port": port})
    address, dashboard = head.address, head.dashboard.removeprefix("http://")
    replaced = {
        "HEAD:6379": address,
        "node1:6379": address,
        "HEAD:8265": dashboard,
        "node1:8265": dashboard,
        "configs/qwen3-32b.yaml model.path=/models/Qwen3-32B": "configs/model.yaml",
        "parallel.tensor_parallel_size=8": "parallel.tensor_parallel_size=2",
        "/data/": f"{tmp_path}/",
    }
    return Cluster(head, Checkout(tree.folder, replaced, {**tree.env, "HOME": head.env["HOME"]}), port)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("export", "doctor", "serve"),
    [
        pytest.param(
            "export RAY_ADDRESS=HEAD:6379 RAY_AUTH_MODE=token",
            "ascend-serve doctor configs/qwen3-32b.yaml model.path=/models/Qwen3-32B",
            "ascend-serve serve configs/qwen3-32b.yaml model.path=/models/Qwen3-32B",
            id="README",
        ),
        pytest.param(
            "export RAY_ADDRESS=node1:6379 RAY_AUTH_MODE=token",
            "ascend-serve doctor configs/model.yaml",
            "ascend-serve serve configs/model.yaml",
            id="operations",
        ),
    ],
)
def test_on_a_cluster(on_cluster: Cluster, export: str, doctor: str, serve: str) -> None:
    tree, port = on_cluster.tree, on_cluster.port
    assert ", 0 fail" in tree.run(f"{export}\n{doctor}")
    with serving(tree, port, f"{export}\n{serve}"):
        assert report(port)["outcome"] == "graph"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("export", "submit", "files"),
    [
        pytest.param(
            "export RAY_ADDRESS=http://HEAD:8265 RAY_AUTH_MODE=token",
            [
                "ray job submit --working-dir . -- "
                "python launch/serve.py configs/qwen3-32b.yaml model.path=/models/Qwen3-32B",
                "ray job submit --working-dir . -- "
                "python launch/generate.py configs/qwen3-32b.yaml model.path=/models/Qwen3-32B "
                "--input /data/prompts.jsonl --output /data/out.jsonl",
            ],
            ("prompts.jsonl", "out.jsonl"),
            id="README",
        ),
        pytest.param(
            "export RAY_ADDRESS=http://node1:8265 RAY_AUTH_MODE=token",
            [
                "ray job submit --working-dir . -- "
                "python launch/serve.py configs/model.yaml parallel.tensor_parallel_size=8",
                "ray job submit --working-dir . -- "
                "python launch/generate.py configs/model.yaml --input /data/in.jsonl --output /data/out.jsonl",
            ],
            ("in.jsonl", "out.jsonl"),
            id="operations",
        ),
    ],
)
def test_jobs(on_cluster: Cluster, export: str, submit: list[str], files: tuple[str, str]) -> None:
    tree, head, port = on_cluster.tree, on_cluster.head, on_cluster.port
    requests, answers = (Path(tree.written(f"/data/{name}")) for name in files)
    requests.write_text('{"prompt": "Hello", "max_tokens": 8}\n')
    serve, generate = submit
    with tree.running(f"{export}\n{serve}") as (process, output):
        server = Command(process, output, port, tree.folder / "temporary")
        server.wait_for("curl ")
    assert report(port)["outcome"] == "graph"
    tree.run(f"{export}\n{generate}")
    (answer,) = map(json.loads, answers.read_text().splitlines())
    assert answer["usage"]["completion_tokens"] == 8
    job = re.search(r"raysubmit_\w+", server.text())
    assert job is not None
    head.ray("job", "stop", job[0])
    process.wait()
    assert wait_until(lambda: head.survey().free_npus == NPUS)

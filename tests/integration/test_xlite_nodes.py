"""The nodes of a real Ray cluster are asked for Xlite, in the runtime environment of the workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.engines import ROOT

ASK = """
import json, sys
from types import SimpleNamespace
import ray
from ascend_serve.engine.xlite import ask_ranks

ray.init(address="local", resources={"NPU": 2}, num_cpus=2, include_dashboard=False, log_to_driver=False)
group = ray.util.placement_group([{"NPU": 1}] * 2)
ray.get(group.ready())
config = SimpleNamespace(
    additional_config={"xlite_graph_config": {"enabled": True}},
    model_config=SimpleNamespace(architectures=["Qwen3ForCausalLM"]),
    speculative_config=None,
    parallel_config=SimpleNamespace(world_size=2, pipeline_parallel_size=1, placement_group=group),
)
print("ANSWER", json.dumps([[offer.version, offer.refusal] for offer in ask_ranks(config, 0)]))
ray.shutdown()
"""


def answers(path: str = "") -> list[list[str]]:
    """Version and refusal of both ranks, on nodes that find packages on ``path``."""
    environment = {name: value for name, value in os.environ.items() if name != "ASCEND_SERVE_EMULATED_NPU"}
    environment |= {"PYTHONPATH": path, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER "))
    return list(json.loads(line.removeprefix("ANSWER ")))


def test_nodes_without_xlite_say_so_and_what_to_install() -> None:
    for version, refusal in answers():
        assert version == ""
        assert "No module named 'xlite'" in refusal
        assert "pip install --pre xlite" in refusal


def test_nodes_with_xlite_tell_its_version(tmp_path: Path) -> None:
    (tmp_path / "xlite").mkdir()
    (tmp_path / "xlite" / "__init__.py").touch()
    (tmp_path / "xlite" / "_C.py").touch()
    metadata = tmp_path / "xlite-0.2.0rc4.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: xlite\nVersion: 0.2.0rc4\n")
    assert answers(str(tmp_path)) == [["0.2.0rc4", ""]] * 2

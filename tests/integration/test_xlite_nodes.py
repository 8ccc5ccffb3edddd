"""The nodes of a real Ray cluster are asked for Xlite, and not the process that starts the engine.

That process finds no Xlite here: it would answer wrongly for the node that has it.
"""

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
from ray.cluster_utils import Cluster
from vllm.config import ParallelConfig
from vllm.platforms import current_platform
from ascend_serve.engine.runtimes.loading import ask_ranks
from ascend_serve.graph.modes import RuntimeName

type(current_platform).ray_device_key = "NPU"  # as vllm-ascend's platform has it
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for path in ("", sys.argv[1]):
    cluster.add_node(num_cpus=1, resources={"NPU": 1}, env_vars={"PYTHONPATH": path})
ray.init(cluster.address, log_to_driver=False)
group = ray.util.placement_group([{"NPU": 1}] * 2)
ray.get(group.ready())
config = SimpleNamespace(
    additional_config={"xlite_graph_config": {"enabled": True}},
    model_config=SimpleNamespace(architectures=["Qwen3ForCausalLM"], runner_type="generate"),
    lora_config=None,
    speculative_config=None,
    use_v2_model_runner=False,
    parallel_config=ParallelConfig(tensor_parallel_size=2, distributed_executor_backend="ray", placement_group=group),
)
print("ANSWER", json.dumps([[offer.version, offer.refusal] for offer in ask_ranks(config, 0)[RuntimeName.XLITE]]))
ray.shutdown()
cluster.shutdown()
"""


def answers(path: Path) -> list[list[str]]:
    """Version and refusal of two ranks, one of them on a node that finds packages on ``path``."""
    environment = {name: value for name, value in os.environ.items() if name != "ASCEND_SERVE_EMULATED_NPU"}
    environment |= {"RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-c", ASK, path], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER "))
    return list(json.loads(line.removeprefix("ANSWER ")))


def test_each_node_answers_for_itself(tmp_path: Path) -> None:
    (tmp_path / "xlite").mkdir()
    (tmp_path / "xlite" / "__init__.py").touch()
    (tmp_path / "xlite" / "_C.py").touch()
    metadata = tmp_path / "xlite-0.2.0rc4.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: xlite\nVersion: 0.2.0rc4\n")
    without, with_xlite = sorted(answers(tmp_path))
    assert with_xlite == ["0.2.0rc4", ""]
    assert without[0] == ""
    assert "No module named 'xlite'" in without[1]
    assert "pip install --pre xlite" in without[1]

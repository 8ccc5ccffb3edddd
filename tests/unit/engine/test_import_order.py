"""A worker imports models after vLLM's plugins: vllm-ascend's change what these import (0.26.0rc1)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ascend_serve.engine import node_worker, spare_worker, worker_extension

RUNNER = "vllm.v1.worker.gpu_model_runner"
"""It imports models (vLLM 0.26.0: DeepSeek's)."""


def told_by(code: str, *path: Path) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_what_a_worker_is_made_of_imports_no_model() -> None:
    modules = ", ".join(module.__name__ for module in (node_worker, spare_worker, worker_extension))
    assert told_by(f"import sys, {modules}; print({RUNNER!r} in sys.modules)").split()[-1] == "False"


def test_a_process_that_will_be_a_worker_begins_without_vllm() -> None:
    """Whoever starts one has not imported it either, and the process has a name at once."""
    assert told_by(f"import sys, {spare_worker.__name__}; print('vllm' in sys.modules)").split()[-1] == "False"


def test_a_spare_has_the_plugins_before_the_worker(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("def register(): print('plugin')\n")
    (tmp_path / "worker.py").write_text("print('worker')\nclass Worker: ...\n")
    (tmp_path / "order-0.dist-info").mkdir()
    (tmp_path / "order-0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: order\nVersion: 0\n")
    (tmp_path / "order-0.dist-info/entry_points.txt").write_text("[vllm.general_plugins]\norder = plugin:register\n")
    code = f"from {spare_worker.__name__} import SpareWorkerProc; SpareWorkerProc('worker.Worker')"
    assert told_by(code, tmp_path).split()[-2:] == ["plugin", "worker"]

"""Real ``ascend-serve`` processes on emulated NPUs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ascend_serve.node.user_files import compiler_cache
from tests.e2e.command import Command
from tests.ports import free_port

COMMAND = (sys.executable, "-m", "ascend_serve.cli.main")

CONFIG = """\
model: {{path: {model}, served_name: demo}}
parallel: {{tensor_parallel_size: 2}}
graph: {{mode: FULL_DECODE_ONLY, capture_sizes: [1, 2, 4]}}
emulated: {{npus: 2}}
serving: {{port: {port}}}
vllm: {{dtype: bfloat16, max_model_len: 256, max_num_seqs: 4, kv_cache_memory_bytes: 33554432}}
"""


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Writes a configuration for a port, with a small model beside it."""
    folder = tmp_path_factory.mktemp("demo")
    model = folder / "model"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "ascend_serve.emulated.demo_model", model], check=True, env=environment)

    def write(port: int) -> Path:
        path = folder / f"{port}.yaml"
        path.write_text(CONFIG.format(model=model, port=port))
        return path

    return write


@pytest.fixture(scope="module")
def start(config: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Command]]:
    """Starts ``ascend-serve serve`` with overrides, in a process group of its own as a shell does.

    ``inside`` is a command that it runs in, ``env`` what it finds in its environment besides.
    """
    started: list[Command] = []

    def run(*overrides: str, inside: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Command:
        port = free_port()
        output = tmp_path_factory.mktemp("serve") / "output"
        # Short enough to be taken; what was compiled before is kept elsewhere.
        temporary = Path(tempfile.mkdtemp(prefix="e2e-", dir="/tmp"))
        temporary.chmod(0o1777)
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        environment |= {"TMPDIR": str(temporary), **compiler_cache([Path(tempfile.gettempdir())]), **(env or {})}
        with output.open("w") as file:
            process = subprocess.Popen(
                [*inside, *COMMAND, "serve", config(port), *overrides],
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
                text=True,
                env=environment,
            )
        started.append(Command(process, output, port, temporary))
        return started[-1]

    yield run
    for command in started:
        if command.process.poll() is None:
            command.end(signal.SIGTERM)
        shutil.rmtree(command.temporary)

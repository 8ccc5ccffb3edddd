"""The processor under an emulated NPU: Linux is asked for AMX before anything computes, and reports name it."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ascend_serve.emulated import processor, worker
from ascend_serve.emulated.device import EmulatedDevice, current_device, initialize_device

ARCH_PRCTL, ARCH_GET_XCOMP_PERM, TILE_DATA = 158, 0x1022, 18
"""Of x86-64 Linux: ``asm/unistd_64.h``, ``asm/prctl.h`` and ``asm/fpu/types.h``."""


class Processor:
    """Stands in for torch's questions to the processor and to Linux."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], *, granted: bool = True):
        self.asked = 0
        self._granted = granted
        monkeypatch.setattr(platform, "machine", lambda: machine)
        for feature in ("amx_tile", "avx512_bf16", "avx512"):
            monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda has=feature in features: has)
        monkeypatch.setattr(torch.cpu, "_init_amx", self._ask)

    def _ask(self) -> bool:
        self.asked += 1
        return self._granted


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        pytest.param("x86_64", {"amx_tile", "avx512_bf16", "avx512"}, "amx", id="Sapphire Rapids"),
        pytest.param("x86_64", {"avx512_bf16", "avx512"}, "avx512_bf16", id="Cooper Lake, Zen 4"),
        pytest.param("x86_64", {"avx512"}, "avx512", id="Skylake"),
        pytest.param("x86_64", set(), "avx2", id="Haswell, Zen 3"),
        pytest.param("aarch64", set(), "neon", id="Kunpeng"),
        pytest.param("riscv64", set(), "riscv64", id="another one"),
    ],
)
def test_instruction_set(machine: str, features: set[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Processor(monkeypatch, machine, features)
    assert processor.instruction_set() == expected


@pytest.mark.parametrize(("features", "asked"), [({"amx_tile"}, 1), (set(), 0)], ids=["with AMX", "without"])
def test_opening_a_device_asks_linux_for_tiles(features: set[str], asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Processor(monkeypatch, "x86_64", features)
    before = current_device()
    initialize_device(EmulatedDevice())
    initialize_device(before)
    assert host.asked == 2 * asked


def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    Processor(monkeypatch, "x86_64", {"amx_tile"}, granted=False)
    with pytest.raises(RuntimeError, match=r"Linux 5\.16 or later .* vllm\.dtype=float32"):
        processor.allow_tiles()


def test_a_worker_asks_before_it_has_anything_that_could_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model runner, which runs every forward pass, is made by the worker of vLLM that comes after."""
    host = Processor(monkeypatch, "x86_64", {"amx_tile"})
    asked_before: list[int] = []
    base = "ascend_serve.emulated.worker.CPUWorker"
    monkeypatch.setattr(f"{base}.init_device", lambda self: asked_before.append(host.asked))
    before = current_device()
    _worker().init_device()
    initialize_device(before)
    assert asked_before == [1]


def _worker() -> Any:
    parallel = SimpleNamespace(
        data_parallel_index=0,
        world_size=1,
        local_world_size=1,
        tensor_parallel_size=1,
        data_parallel_size=1,
        enable_expert_parallel=False,
    )
    rank = object.__new__(worker.EmulatedNPUWorker)
    rank.parallel_config, rank.rank, rank.distributed_init_method = parallel, 0, "file:///tmp/none"
    rank.use_v2_model_runner = False
    rank.vllm_config = SimpleNamespace(parallel_config=parallel, additional_config={}, instance_id="group")
    return rank


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this processor has no AMX tiles to ask for")
def test_linux_has_granted_tiles_once_a_device_is_open() -> None:
    program = (
        "from ascend_serve.emulated.device import EmulatedDevice, initialize_device\n"
        "from tests.unit.emulated.test_processor import may_use_tiles\n"
        "before = may_use_tiles()\n"
        "initialize_device(EmulatedDevice())\n"
        "print(before, may_use_tiles())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert done.stdout.split() == ["False", "True"]


def may_use_tiles() -> bool:
    """Whether Linux lets this process touch AMX tile data."""
    granted = ctypes.c_uint64()
    result = ctypes.CDLL(None, use_errno=True).syscall(ARCH_PRCTL, ARCH_GET_XCOMP_PERM, ctypes.byref(granted))
    return result == 0 and bool(granted.value & 1 << TILE_DATA)

"""What the processor under an emulated NPU can do, and what Linux wants to be asked before it may.

A process that touches AMX tile data before it asked Linux is killed (SIGILL). vLLM's attention for bfloat16 uses tiles
and never asks (``cpu_attn.py``, 0.32.0): it counts on an earlier oneDNN kernel, which stock vLLM's warm-up at full size
brings and a small first batch does not. The grant is the process's own and passes to its children.
"""

from __future__ import annotations

import platform

import torch

_X86 = ("x86_64", "AMD64")
_ARM = ("aarch64", "arm64")


def allow_tiles() -> None:
    """Ask Linux for AMX tiles where the processor has them (``arch_prctl(ARCH_REQ_XCOMP_PERM, 18)``).

    Raises:
        RuntimeError: Linux refuses: it is older than 5.16, or a sandbox filters the call.
    """
    if torch.cpu._is_amx_tile_supported() and not torch.cpu._init_amx():
        raise RuntimeError(
            "This processor has AMX, but Linux does not let the process use it: Linux 5.16 or later and a container "
            "that allows arch_prctl(ARCH_REQ_XCOMP_PERM) are needed; vllm.dtype=float32 does without."
        )


def instruction_set() -> str:
    """The widest instruction set that vLLM's kernels and torch use here: ``amx``, ``avx512_bf16``, ``neon``, ...

    vLLM 0.32.0 has kernels for AVX-512 with bfloat16, for AVX-512 and for AVX2 (``CpuPlatform.import_kernels``).
    """
    machine = platform.machine()
    if machine in _ARM:
        return "neon"
    if machine not in _X86:
        return machine
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    return "avx512" if torch.cpu._is_avx512_supported() else "avx2"

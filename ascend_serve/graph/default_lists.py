"""The lists of capture sizes that others start with, to compare ours with. Sizes in tokens, ascending."""

from __future__ import annotations

from collections.abc import Sequence


def vllm_sizes(maximum: int) -> tuple[int, ...]:
    """vLLM's default, which vllm-ascend uses: 1, 2, 4, every 8 below 256, every 16 from there.

    Source: ``VllmConfig._set_cudagraph_sizes`` (0.23.0, 0.32.0). It need not hold ``maximum`` itself.
    """
    sizes = [1, 2, 4, *range(8, min(maximum + 1, 256), 8), *range(256, maximum + 1, 16)]
    return _up_to(sizes, maximum)


def sglang_sizes(maximum: int) -> tuple[int, ...]:
    """SGLang's default: 1, 2, 4, 8, 12, every 8 from 16 to 256, every 16 to 496, every 32 from 512."""
    sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 497, 16), *range(512, max(maximum, 512) + 1, 32)]
    return _up_to(sizes, maximum)


def tensorrt_llm_sizes(maximum: int) -> tuple[int, ...]:
    """TensorRT-LLM's default: 1, 2, 4, every 8 to 128, every 64 from there."""
    return _up_to([1, 2, 4, *range(8, 129, 8), *range(192, maximum + 1, 64)], maximum)


def even_subsample(sizes: Sequence[int], count: int) -> tuple[int, ...]:
    """Keep ``count`` of ``sizes`` at even steps, the first and the last included, as vllm-ascend prunes its list.

    Source: ``prune_capture_sizes_for_950`` (vllm-ascend 0.23.0). One size is the last.
    """
    if count >= len(sizes):
        return tuple(sizes)
    if count <= 1:
        return tuple(sizes[-1:]) if count == 1 else ()
    step = (len(sizes) - 1) / (count - 1)
    return tuple(sizes[round(index * step)] for index in range(count))


def _up_to(sizes: Sequence[int], maximum: int) -> tuple[int, ...]:
    return tuple(size for size in sizes if size <= maximum)

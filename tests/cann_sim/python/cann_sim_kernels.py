"""Reference implementations of the kernels that vllm-ascend 0.23.0 brings or expects and the simulated CANN lacks.

Operators of ATB, CANN's library of transformer operators, are composed of torch_npu's own operators, so that a capture
records them. A kernel of Triton computes on the host, outside of captures, where vLLM calls it.

vLLM calls ``register`` in every process, as a general plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def reshape_and_cache(
    key: torch.Tensor, value: torch.Tensor, key_cache: torch.Tensor, value_cache: torch.Tensor, slots: torch.Tensor
) -> None:
    """Write each token's key and value to its slot."""
    import torch_npu

    torch_npu.npu_scatter_pa_kv_cache(key, value, key_cache, value_cache, slots)


def matmul_add_fp32(x: torch.Tensor, weight: torch.Tensor, accumulated: torch.Tensor) -> None:
    """Add the product of ``x``, transposed, and ``weight`` to ``accumulated``."""
    accumulated.add_(torch.mm(x.t().float(), weight.float()))


def rotary_embedding(  # noqa: PLR0917, ATB's
    positions: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    head_size: int,
    cos_sin_cache: torch.Tensor,
    is_neox_style: bool,
) -> None:
    """Rotate ``query`` and ``key`` (tokens x heads * head size) in place.

    Raises:
        NotImplementedError: Pairs of neighbours are to be rotated, not halves.
    """
    import torch_npu

    if not is_neox_style:
        raise NotImplementedError("_npu_rotary_embedding of neighbours")
    halves = cos_sin_cache.index_select(0, positions.flatten()).to(query.dtype).chunk(2, -1)
    cos, sin = (torch.cat([half, half], -1).view(1, -1, 1, head_size) for half in halves)
    for x in (query, key):
        x.copy_(torch_npu.npu_rotary_mul(x.view(1, x.shape[0], -1, head_size), cos, sin).view(x.shape))


def compute_slot_mapping(  # noqa: PLR0917, vLLM's
    grid: tuple[int],
    num_tokens: int,
    max_num_tokens: int,
    query_start_loc: torch.Tensor,
    positions: torch.Tensor,
    block_table: torch.Tensor,
    block_table_stride: int,
    block_size: int,
    slot_mapping: torch.Tensor,
    *,
    TOTAL_CP_WORLD_SIZE: int,
    PAD_ID: int,
    **_: int,
) -> None:
    """The slot of every token in the KV cache; slots past the last token are ``PAD_ID``.

    Raises:
        NotImplementedError: A sequence is spread over several ranks.
    """
    if TOTAL_CP_WORLD_SIZE != 1:
        raise NotImplementedError("_compute_slot_mapping_kernel with context parallelism")
    requests = grid[0] - 1
    starts = query_start_loc[: requests + 1].cpu().long()
    rows = torch.repeat_interleave(torch.arange(requests, device="cpu"), starts.diff())
    begin, end = int(starts[0]), int(starts[-1])
    at = positions[begin:end].cpu()
    slots = block_table.cpu()[rows, at // block_size].long() * block_size + at % block_size
    slot_mapping[begin:end].copy_(slots)
    slot_mapping[num_tokens:max_num_tokens].fill_(PAD_ID)


class Kernel:
    """A function that is called as a kernel of Triton: ``kernel[grid](...)``."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *args, **options: self._function(grid, *args, **options)


ATB: dict[str, Callable[..., None]] = {
    "_npu_reshape_and_cache": reshape_and_cache,
    "_npu_matmul_add_fp32": matmul_add_fp32,
    "_npu_rotary_embedding": rotary_embedding,
}

_library: Any = None


def register() -> None:
    """Put the kernels where vllm-ascend finds them."""
    global _library  # noqa: PLW0603
    if _library is not None:
        return
    from torch_npu.op_plugin.atb import _atb_ops  # noqa: F401
    from vllm.v1.worker import block_table
    from vllm_ascend.utils import enable_custom_op

    _library = torch.library.Library("atb", "IMPL")
    for name, function in ATB.items():
        _library.impl(name, function, "PrivateUse1", allow_override=True)
    block_table._compute_slot_mapping_kernel = Kernel(compute_slot_mapping)
    # It answers that there are no custom operators, and must do so before torch.compile traces the question.
    enable_custom_op()

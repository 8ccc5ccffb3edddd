"""Reference implementations of the kernels that vllm-ascend brings or expects and the simulated CANN lacks.

Operators of ATB, CANN's library of transformer operators, and of vllm-ascend's compiled part are composed of
torch_npu's own operators, so that a capture records them. Kernels of Triton are vLLM's and vllm-ascend's own, in the
language of the emulated NPU.

vLLM calls ``register`` in every process, as a general plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ascend_serve.emulated.triton_language import Kernel, Pointer, install


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


def moe_gating_top_k(x: torch.Tensor, k: int, *words: Any) -> Any:
    """Choose the best ``k`` experts of each token."""
    import torch_npu

    names = ("k_group", "group_count", "group_select_mode", "renorm", "norm_type", "out_flag", "routed_scaling_factor")
    return torch_npu.npu_moe_gating_top_k(x, k, **dict(zip((*names, "eps", "bias"), words, strict=False)))


def moe_init_routing(x: torch.Tensor, experts: torch.Tensor, **words: Any) -> Any:
    """Sort tokens by experts."""
    import torch_npu

    return torch_npu.npu_moe_init_routing_v2(x, experts, **words)


class DeviceKernel(Kernel):
    """A kernel of Triton on tensors of the simulated device, whose memory is the host's."""

    def _launch(self, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
        torch.npu.synchronize()
        super()._launch(grid, *args, **kwargs)

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.device.type == "cpu":
            return super()._argument(value)
        is_bfloat16 = value.dtype is torch.bfloat16
        nothing = torch.empty(0, dtype=torch.uint16 if is_bfloat16 else value.dtype, device="cpu").numpy()
        if not value.numel():
            return Pointer(nothing, 0)
        place = Pointer.at(value.data_ptr(), nothing.dtype)
        return Pointer(place.memory, place.offset, is_bfloat16=is_bfloat16)


def have_triton() -> None:
    """Let kernels that vLLM and vllm-ascend define from here on compute on the host, outside of captures."""
    from vllm.config import vllm as configuration
    from vllm.triton_utils import triton

    install()
    configuration.HAS_TRITON = True
    triton.jit = lambda function=None, **_options: triton.jit if function is None else DeviceKernel(function)


ATB: dict[str, Callable[..., None]] = {
    "_npu_reshape_and_cache": reshape_and_cache,
    "_npu_matmul_add_fp32": matmul_add_fp32,
    "_npu_rotary_embedding": rotary_embedding,
}

COMPILED: dict[str, Callable[..., Any]] = {
    "moe_gating_top_k(Tensor x, int k, int k_group, int group_count, int group_select_mode, int renorm, int norm_type, "
    "bool out_flag, float routed_scaling_factor, float eps, Tensor? bias_opt=None) -> (Tensor, Tensor, Tensor)": (
        moe_gating_top_k
    ),
    "npu_moe_init_routing_custom(Tensor x, Tensor expert_idx, *, Tensor? scale=None, int active_num, int expert_num, "
    "int expert_tokens_num_type, bool expert_tokens_num_flag, int[2] active_expert_range, int quant_mode) -> "
    "(Tensor, Tensor, Tensor, Tensor)": moe_init_routing,
}
"""By schema."""

_libraries: list[Any] = []
"""Operators last as long as what they are registered with."""


def register() -> None:
    """Put the kernels where vllm-ascend finds them."""
    if _libraries:
        return
    from torch_npu.op_plugin.atb import _atb_ops  # noqa: F401
    from vllm_ascend.utils import enable_custom_op

    atb, own = torch.library.Library("atb", "IMPL"), torch.library.Library("_C_ascend", "FRAGMENT")
    _libraries.extend((atb, own))
    for name, function in ATB.items():
        atb.impl(name, function, "PrivateUse1", allow_override=True)
    for schema, function in COMPILED.items():
        own.impl(own.define(schema), function, "CompositeImplicitAutograd")
    # It answers that there are no custom operators, and must do so before torch.compile traces the question.
    enable_custom_op()

"""The canary: what a fixed eager batch computes before capture must be reproduced bit for bit before serving.

A failed capture may leave a process that runs on and computes wrong numbers. Dummy runs write no KV cache (vLLM fills
the slot mapping with -1), so the same batch gives the same bits as long as device, weights and collectives are sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from vllm.config import CUDAGraphMode
from vllm.distributed.parallel_state import get_pp_group

from ascend_serve.engine.expected import expected

CANARY_TOKENS = 4


class Canary:
    """What one rank computes of a fixed batch, then and now. All ranks do it together: it does collectives.

    Args:
        batch: Computes the batch.
    """

    def __init__(self, batch: Callable[[], Iterable[torch.Tensor]]) -> None:
        self._batch = batch
        self._expected = ""

    def take(self) -> None:
        """Note what this process computes now."""
        self._expected = _digest(self._batch())

    def holds(self) -> bool:
        """Whether this process still computes the same bits."""
        return _digest(self._batch()) == self._expected


@torch.inference_mode()
def fixed_batch(runner: Any) -> Iterable[torch.Tensor]:
    """What this rank computes of the canary's batch: its logits, what it pools, or what goes to the next stage.

    Args:
        runner: vLLM's V1 model runner of this worker (0.23.0 and 0.32.0).
    """
    _fill_inputs(runner)
    hidden_states, last = runner._dummy_run(
        CANARY_TOKENS, cudagraph_runtime_mode=CUDAGraphMode.NONE, force_attention=True, skip_eplb=True
    )
    if not get_pp_group().is_last_rank:
        return tuple(hidden_states.tensors.values())
    if runner.is_pooling_model:
        return _pooled(runner, hidden_states)
    logits = runner.get_model().compute_logits(last)
    # Tensor-parallel ranks other than the first may get no logits from the gather.
    return (last if logits is None else logits,)


def _pooled(runner: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What the model pools of ``hidden_states``, in the task with the largest output; it has no logits.

    Args:
        runner: vLLM's V1 model runner of this worker (0.23.0 and 0.32.0).
        hidden_states: Of all tokens of the batch.
    """
    return tuple(tensor for tensor in runner._dummy_pooler_run(hidden_states) if tensor is not None)


def _fill_inputs(runner: Any) -> None:
    """Overwrite what earlier steps left in the runner's persistent input buffers."""
    positions = runner.positions
    on_device = positions if isinstance(positions, torch.Tensor) else expected(positions, "gpu")
    runner.input_ids.gpu[:CANARY_TOKENS].copy_(torch.arange(1, CANARY_TOKENS + 1))
    on_device[:CANARY_TOKENS].zero_()
    if runner.intermediate_tensors is not None:
        for tensor in runner.intermediate_tensors.tensors.values():
            tensor.zero_()


def _digest(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

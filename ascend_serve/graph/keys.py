"""The key of one graph, and the keys that a mode captures for a list of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ascend_serve.graph.modes import GraphMode


@dataclass(frozen=True, slots=True)
class GraphKey:
    """vLLM's ``BatchDescriptor`` with the kind of graph it belongs to.

    Attributes:
        kind: ``FULL`` or ``PIECEWISE``: vLLM's runtime mode of this graph.
        num_tokens: Capture size, in tokens.
        num_reqs: Requests in the batch; ``None`` where a piecewise graph fits any number.
        uniform: Whether all requests have the decode query length.
        num_active_loras: LoRA case; 0 without LoRA.
    """

    kind: GraphMode
    num_tokens: int
    num_reqs: int | None = None
    uniform: bool = False
    num_active_loras: int = 0

    @property
    def label(self) -> str:
        """A short name for logs and reports, for example ``FULL/8``."""
        lora = f"+lora{self.num_active_loras}" if self.num_active_loras else ""
        return f"{self.kind.value}/{self.num_tokens}{lora}"


def capture_keys(
    mode: GraphMode,
    capture_sizes: Sequence[int],
    *,
    max_num_seqs: int,
    decode_query_len: int = 1,
    lora_cases: Sequence[int] = (0,),
) -> tuple[GraphKey, ...]:
    """List the graphs that ``mode`` captures for ``capture_sizes``, in capture order.

    The order and the cases are those of vLLM's ``CudagraphDispatcher.initialize_cudagraph_keys`` and
    ``get_capture_descs`` (0.23.0 and 0.32.0): piecewise before full, largest first.

    Args:
        mode: The mode all ranks agreed on.
        capture_sizes: Padded batch sizes, in tokens.
        max_num_seqs: The scheduler's limit of requests in a batch.
        decode_query_len: Tokens per request in a decode step (1 + speculative tokens).
        lora_cases: Numbers of active LoRA adapters that get graphs of their own.
    """
    mixed = [
        _mixed_key(mode.mixed_mode, size, max_num_seqs, loras)
        for size in capture_sizes
        for loras in lora_cases
        if mode.mixed_mode is not GraphMode.NONE
    ]
    decode = [
        GraphKey(GraphMode.FULL, size, min(size // decode_query_len, max_num_seqs), True, loras)
        for size in capture_sizes
        for loras in lora_cases
        if mode.separate_routine and decode_query_len <= size <= decode_query_len * max_num_seqs
    ]
    return tuple(sorted(mixed + decode, key=_capture_order))


def _mixed_key(kind: GraphMode, size: int, max_num_seqs: int, loras: int) -> GraphKey:
    num_reqs = None if kind is GraphMode.PIECEWISE else min(size, max_num_seqs)
    return GraphKey(kind, size, num_reqs, False, loras)


def _capture_order(key: GraphKey) -> tuple[bool, int, int]:
    return key.kind is GraphMode.FULL, -key.num_tokens, -key.num_active_loras

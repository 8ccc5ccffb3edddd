"""vLLM's own narrowing of ``cudagraph_mode`` to what the weakest attention backend of a model supports, as a table.

Held equal to ``CompilationConfig.resolve_cudagraph_mode_and_sizes`` by a differential test: by running it for vLLM
0.32.0, and by its syntax tree for 0.23.0. Not modelled: Inductor's graph partition, which vllm-ascend turns off.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.rule import Change, Rule, apply_rules


class GraphSupport(IntEnum):
    """What an attention backend declares: vLLM's ``AttentionCGSupport`` (equal in 0.23.0 and 0.32.0)."""

    NEVER = 0
    UNIFORM_SINGLE_TOKEN_DECODE = 1
    UNIFORM_BATCH = 2
    ALWAYS = 3


@dataclass(frozen=True, slots=True)
class BackendSituation:
    """What the narrowing depends on.

    Attributes:
        mode: The mode asked for.
        support: What the weakest attention backend declares.
        backend: Name of that backend.
        decode_query_len: Tokens per request in a decode step.
        compiled: Whether vLLM's compilation is on (``CompilationMode.VLLM_COMPILE``).
        split_at_attention: Whether the FX graph is split at the attention ops.
        piecewise_capture: Whether the loaded model has pieces to capture (0.32.0 only; 0.23.0 takes it for granted).
    """

    mode: GraphMode
    support: GraphSupport
    backend: str
    decode_query_len: int = 1
    compiled: bool = True
    split_at_attention: bool = True
    piecewise_capture: bool = True

    @property
    def declares(self) -> str:
        """Name of the declared support."""
        return self.support.name


def without_piecewise(mode: GraphMode) -> GraphMode:
    """What is left of ``mode`` where pieces cannot be captured: vLLM's ``CUDAGraphMode.without_piecewise``."""
    left = {GraphMode.PIECEWISE: GraphMode.NONE, GraphMode.FULL_AND_PIECEWISE: GraphMode.FULL_DECODE_ONLY}
    return left.get(mode, mode)


def _full_for_mixed(s: BackendSituation) -> bool:
    return s.mode.mixed_mode is GraphMode.FULL and s.support is not GraphSupport.ALWAYS


def _full_for_decode(s: BackendSituation) -> bool:
    return s.mode.decode_mode is GraphMode.FULL


_UPSTREAM = "vLLM 0.23.0 and 0.32.0, CompilationConfig.resolve_cudagraph_mode_and_sizes"

NARROWING: tuple[Rule[BackendSituation], ...] = (
    Rule(
        "backend-without-graphs",
        _UPSTREAM,
        when=lambda s: _full_for_mixed(s) and s.support is GraphSupport.NEVER,
        reason="Attention backend {s.backend} declares {s.declares}: it cannot be captured, "
        "so mode {s.mode} cannot run.",
        remedy="Set graph.mode=PIECEWISE, which leaves attention out of the graphs.",
    ),
    Rule(
        "backend-uniform-batches-only",
        _UPSTREAM,
        when=_full_for_mixed,
        changes="mode",
        to=lambda s: GraphMode.FULL_AND_PIECEWISE if s.split_at_attention else GraphMode.FULL_DECODE_ONLY,
        reason="Attention backend {s.backend} declares {s.declares}: full graphs for decode batches only, "
        "not for batches with prefill.",
    ),
    Rule(
        "backend-without-decode-graphs",
        _UPSTREAM,
        when=lambda s: _full_for_decode(s) and s.support is GraphSupport.NEVER,
        changes="mode",
        to=lambda s: GraphMode.PIECEWISE if s.compiled and s.split_at_attention else GraphMode.NONE,
        reason="Attention backend {s.backend} declares {s.declares}: it cannot be captured.",
    ),
    Rule(
        "backend-single-token-decode-only",
        _UPSTREAM,
        when=lambda s: _full_for_decode(s) and s.decode_query_len > 1 and s.support < GraphSupport.UNIFORM_BATCH,
        changes="mode",
        to=lambda s: GraphMode.PIECEWISE if s.split_at_attention else GraphMode.NONE,
        reason="Attention backend {s.backend} declares {s.declares}: full graphs for one token per request only, "
        "not for the {s.decode_query_len} of speculative decoding.",
    ),
    Rule(
        "no-pieces-to-capture",
        "vLLM 0.32.0, CompilationConfig.resolve_cudagraph_mode_and_sizes",
        when=lambda s: not s.piecewise_capture,
        changes="mode",
        to=lambda s: without_piecewise(s.mode),
        reason="The model is not compiled in pieces, so there are none to capture.",
    ),
)


def narrow(situation: BackendSituation) -> tuple[GraphMode, tuple[Change, ...]]:
    """Narrow the mode asked for to what the attention backend supports.

    Raises:
        PlanError: The backend supports nothing of it, where vLLM raises ``ValueError``.
    """
    narrowed, changes = apply_rules(NARROWING, situation)
    return narrowed.mode, changes

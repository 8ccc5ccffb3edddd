"""Which sizes are asked for: those that can be reached, how many of them, and the load that tells which waste least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import PlanError
from ascend_serve.graph.default_lists import vllm_sizes
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.plan import Adjustment
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.graph.situation import Situation
from ascend_serve.graph.sizes import MAX_CAPTURE_SIZE, candidate_sizes, eager_share, prior_weights
from ascend_serve.graph.workload import from_concurrency, from_histogram, from_trace
from ascend_serve.planning.settings import EngineSettings
from ascend_serve.planning.workload_file import read_workload

SIZE_RULES = {
    "reachable-sizes": "vLLM 0.23.0, CudagraphDispatcher and adjust_cudagraph_sizes_for_spec_decode",
    "device-sizes": "graph/rules.py, sizes-on-950 and sizes-on-310p",
    "stream-budget": "streams of the device, graph/stream_costs.py",
}
"""Rules that are made here and by the agreement, and their sources."""


@dataclass(frozen=True, slots=True)
class SizesAsked:
    """Sizes to choose from.

    Attributes:
        candidates: All sizes that a decode batch can be padded to, ascending, in tokens.
        sizes: Sizes to choose from, ascending, in tokens: the user's as far as they can be reached, else all.
        most: Most sizes to capture; ``None`` where there is none to choose.
        workload: Where the distribution of batch sizes comes from.
        weights: The distribution by which sizes are chosen.
        adjustments: What was narrowed.
    """

    candidates: tuple[int, ...]
    sizes: tuple[int, ...]
    most: int | None
    workload: str
    weights: dict[int, float]
    adjustments: tuple[Adjustment, ...] = ()


def sizes_asked(config: AscendServeConfig, settings: EngineSettings, situation: Situation) -> SizesAsked:
    """The sizes that the capture group is asked for.

    Raises:
        PlanError: There is none, and the mode has graphs.
        ConfigError: The workload's file cannot be read.
    """
    candidates = reachable_sizes(settings, situation)
    workload, weights = _workload(config, settings, candidates)
    mode = RUNTIMES[situation.runtime].lower_mode or situation.mode
    if mode is GraphMode.NONE or (not candidates and situation.mode is GraphMode.NONE):
        return SizesAsked(candidates, (), None, workload, weights)
    if not candidates:
        raise PlanError(*_no_candidate(settings, situation))
    sizes, adjustments = _wanted(candidates, mode, config, settings)
    most = default_count(candidates) if config.graph.capture_sizes is None else len(sizes)
    if situation.max_sizes is not None and situation.max_sizes < most:
        reason = f"{situation.soc} has room for {situation.max_sizes} sizes."
        limit = Adjustment("device-sizes", f"{most} sizes", f"{situation.max_sizes} sizes", reason)
        adjustments, most = (*adjustments, limit), situation.max_sizes
    return SizesAsked(candidates, sizes, most, workload, weights, adjustments)


def reachable_sizes(settings: EngineSettings, situation: Situation) -> tuple[int, ...]:
    """All sizes that a decode batch can be padded to, ascending, in tokens."""
    return candidate_sizes(
        settings.max_num_seqs,
        situation.decode_query_len,
        situation.tensor_parallel_size if situation.sequence_parallel else 1,
        min(MAX_CAPTURE_SIZE, settings.max_num_batched_tokens or MAX_CAPTURE_SIZE),
    )


def default_count(candidates: Sequence[int]) -> int:
    """How many sizes vLLM's default list has over the same range: our number where nothing else limits it."""
    unit, top = candidates[0], candidates[-1]
    return len({-(-size // unit) * unit for size in vllm_sizes(top)} & set(candidates))


def _workload(
    config: AscendServeConfig, settings: EngineSettings, candidates: Sequence[int]
) -> tuple[str, dict[int, float]]:
    given, length = config.graph.workload, 1 + settings.num_speculative_tokens
    if given.histogram is not None:
        workload = from_histogram(read_workload(given.histogram), given.histogram)
    elif given.trace is not None:
        text = read_workload(given.trace)
        workload = from_trace(text, given.trace, settings.max_num_seqs, length, given.step_ms)
    elif given.concurrency is not None:
        workload = from_concurrency(given.concurrency, settings.max_num_seqs, length)
    else:
        prior = prior_weights(candidates) if candidates else {}
        return "prior: nothing is known of the load", prior
    return workload.source, workload.smoothed(candidates) if candidates else dict(workload.weights)


def _no_candidate(settings: EngineSettings, situation: Situation) -> tuple[str, str]:
    unit = lcm(situation.decode_query_len, situation.tensor_parallel_size if situation.sequence_parallel else 1)
    return (
        f"vllm.max_num_seqs {settings.max_num_seqs} x {situation.decode_query_len} tokens per request leaves no "
        f"capture size: sizes are multiples of {unit}",
        f"Set vllm.max_num_seqs to at least {-(-unit // situation.decode_query_len)}.",
    )


def _wanted(
    candidates: tuple[int, ...], mode: GraphMode, config: AscendServeConfig, settings: EngineSettings
) -> tuple[tuple[int, ...], tuple[Adjustment, ...]]:
    """The user's sizes as far as they can be reached, else all candidates."""
    asked = config.graph.capture_sizes
    if asked is None:
        return candidates, ()
    unit, top = candidates[0], candidates[-1]
    if mode is not GraphMode.FULL_DECODE_ONLY:
        # Batches with prefill reach beyond the largest decode batch.
        top = max(top, settings.max_num_batched_tokens or asked[-1])
    valid = tuple(sorted({rounded for size in asked if (rounded := -(-size // unit) * unit) <= top}))
    if not valid:
        raise PlanError(
            f"graph.capture_sizes: none of {_words(asked)} can be reached: sizes are multiples of {unit}, "
            f"at most {top}",
            "Leave graph.capture_sizes out, or give sizes in that range.",
        )
    if valid == asked:
        return valid, ()
    reason = f"Sizes are multiples of {unit}, and no batch that replays a graph has more than {top} tokens."
    return valid, (Adjustment("reachable-sizes", _words(asked), _words(valid), reason),)


def batches_without_graph(
    asked: SizesAsked, sizes: Sequence[int], settings: EngineSettings, situation: Situation
) -> tuple[str, ...]:
    """Say when the largest decode batches are larger than all of ``sizes``."""
    reach = settings.max_num_seqs * situation.decode_query_len
    if not sizes or sizes[-1] >= reach:
        return ()
    above = eager_share(sizes, asked.weights)
    share = f", {above:.0%} of the expected steps" if above else ""
    return (f"Decode batches of {sizes[-1] + 1} to {reach} tokens run eager{share}: {_why_eager(asked, sizes[-1])}",)


def _why_eager(asked: SizesAsked, largest: int) -> str:
    unit, top = asked.candidates[0], asked.candidates[-1]
    if largest < top:
        return f"graph.capture_sizes ends at {largest}; add {top}."
    if top + unit > MAX_CAPTURE_SIZE:
        return f"{top} is the largest size that vLLM Ascend captures; lower vllm.max_num_seqs, or accept it."
    return f"sizes are multiples of {unit}; make vllm.max_num_seqs one, too."


def _words(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))

"""Which sizes are captured: what is valid, how many fit, and which of them waste least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import PlanError
from ascend_serve.graph.default_lists import vllm_sizes
from ascend_serve.graph.ladder import CHEAPER_MODE
from ascend_serve.graph.modes import GraphMode, OnFailure
from ascend_serve.graph.plan import Adjustment
from ascend_serve.graph.rules import Situation
from ascend_serve.graph.sizes import MAX_CAPTURE_SIZE, candidate_sizes, eager_share, prior_weights, select_sizes
from ascend_serve.graph.stream_costs import (
    DEVICE_STREAMS,
    HELD_BACK_STREAMS,
    StreamLayout,
    prior_budget,
    sizes_that_fit,
    streams_per_size,
)
from ascend_serve.graph.workload import from_concurrency, from_histogram, from_trace
from ascend_serve.planning.settings import EngineSettings
from ascend_serve.planning.workload_file import read_workload

SIZE_RULES = {
    "reachable-sizes": "vLLM 0.23.0, CudagraphDispatcher and adjust_cudagraph_sizes_for_spec_decode",
    "stream-budget": "streams of the device, graph/stream_costs.py",
    "device-sizes": "graph/rules.py, sizes-on-950 and sizes-on-310p",
}
"""Rules that are made here, and their sources."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What was chosen.

    Attributes:
        mode: The mode that holds; cheaper than asked for where not one size fits.
        candidates: All sizes that a decode batch can be padded to, ascending, in tokens.
        sizes: Capture sizes, ascending, in tokens.
        budget: Streams there are for graphs.
        budget_source: ``prior``, ``container quota`` or ``measured``.
        workload: Where the distribution comes from.
        weights: The distribution by which sizes were chosen.
        adjustments: What was narrowed.
        notes: What else a person should know.
    """

    mode: GraphMode
    candidates: tuple[int, ...]
    sizes: tuple[int, ...]
    budget: int
    budget_source: str
    workload: str
    weights: dict[int, float]
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()


def choose_sizes(
    config: AscendServeConfig,
    settings: EngineSettings,
    situation: Situation,
    layout: StreamLayout,
    measured_budget: int | None = None,
) -> Sizing:
    """Choose the capture sizes of a deployment.

    Raises:
        PlanError: No size can be captured, and the configuration does not allow to do without.
        ConfigError: The workload's file cannot be read.
    """
    candidates = reachable_sizes(settings, situation)
    workload, weights = _workload(config, settings, candidates)
    budget, source = _budget(config, layout, measured_budget)
    sizing = Sizing(situation.mode, candidates, (), budget, source, workload, weights)
    if situation.mode is GraphMode.NONE:
        return sizing
    if not candidates:
        raise PlanError(*_no_candidate(settings, situation))
    sizing = _cheaper_until_one_fits(sizing, config, layout, len(settings.lora_cases))
    if sizing.mode is GraphMode.NONE:
        return sizing
    wanted, sizing = _wanted(sizing, config, settings)
    sizing = _limited(sizing, wanted, situation, layout, len(settings.lora_cases))
    return _with_notes(sizing, settings.max_num_seqs * situation.decode_query_len)


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


def _budget(config: AscendServeConfig, layout: StreamLayout, measured: int | None) -> tuple[int, str]:
    """A container's quota keeps the same share back as a whole device."""
    if measured is not None:
        return measured, "measured"
    quota = config.hardware.stream_quota
    if quota is not None and not config.emulated.npus:
        return prior_budget(layout, quota * (DEVICE_STREAMS - HELD_BACK_STREAMS) // DEVICE_STREAMS), "container quota"
    return prior_budget(layout), "prior"


def _no_candidate(settings: EngineSettings, situation: Situation) -> tuple[str, str]:
    unit = lcm(situation.decode_query_len, situation.tensor_parallel_size if situation.sequence_parallel else 1)
    return (
        f"vllm.max_num_seqs {settings.max_num_seqs} x {situation.decode_query_len} tokens per request leaves no "
        f"capture size: sizes are multiples of {unit}",
        f"Set vllm.max_num_seqs to at least {-(-unit // situation.decode_query_len)}.",
    )


def _cheaper_until_one_fits(sizing: Sizing, config: AscendServeConfig, layout: StreamLayout, cases: int) -> Sizing:
    while sizing.mode is not GraphMode.NONE and not _room(sizing, layout, cases):
        reason = _scarcity(sizing, layout, cases)
        if config.graph.on_failure is OnFailure.FAIL:
            raise PlanError(
                f"{reason} [stream-budget]", "Set graph.mode=FULL_DECODE_ONLY, or graph.on_failure=degrade."
            )
        lower = CHEAPER_MODE[sizing.mode]
        adjustment = Adjustment("stream-budget", sizing.mode.value, lower.value, reason)
        sizing = replace(sizing, mode=lower, adjustments=(*sizing.adjustments, adjustment))
    return sizing


def _scarcity(sizing: Sizing, layout: StreamLayout, cases: int) -> str:
    need = streams_per_size(layout, sizing.mode) * cases
    return f"One size takes {need} streams in {sizing.mode}, and there are {sizing.budget} ({sizing.budget_source})."


def _room(sizing: Sizing, layout: StreamLayout, cases: int) -> int:
    return (sizes_that_fit(layout, sizing.mode, sizing.budget) or 0) // cases


def _wanted(
    sizing: Sizing, config: AscendServeConfig, settings: EngineSettings
) -> tuple[tuple[int, ...] | None, Sizing]:
    """The user's sizes as far as they can be reached; ``None`` where the choice is ours."""
    asked = config.graph.capture_sizes
    if asked is None:
        return None, replace(sizing, sizes=sizing.candidates)
    unit, top = sizing.candidates[0], sizing.candidates[-1]
    if sizing.mode is not GraphMode.FULL_DECODE_ONLY:
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
        return valid, replace(sizing, sizes=valid)
    reason = f"Sizes are multiples of {unit}, and no batch that replays a graph has more than {top} tokens."
    adjustment = Adjustment("reachable-sizes", _words(asked), _words(valid), reason)
    return valid, replace(sizing, sizes=valid, adjustments=(*sizing.adjustments, adjustment))


def _limited(
    sizing: Sizing, wanted: tuple[int, ...] | None, situation: Situation, layout: StreamLayout, cases: int
) -> Sizing:
    """The best of the valid sizes, as many as there is room for."""
    most = default_count(sizing.sizes) if wanted is None else len(wanted)
    count, adjustments = most, list(sizing.adjustments)
    room = _room(sizing, layout, cases)
    if room < count:
        reason = _scarcity(sizing, layout, cases)
        adjustments.append(Adjustment("stream-budget", f"{count} sizes", f"{room} sizes", reason))
        count = room
    if situation.max_sizes is not None and situation.max_sizes < count:
        reason = f"{situation.soc} has room for {situation.max_sizes} sizes."
        adjustments.append(Adjustment("device-sizes", f"{count} sizes", f"{situation.max_sizes} sizes", reason))
        count = situation.max_sizes
    chosen = wanted if wanted is not None and count == most else select_sizes(sizing.sizes, count, sizing.weights)
    return replace(sizing, sizes=chosen, adjustments=tuple(adjustments))


def _with_notes(sizing: Sizing, reach: int) -> Sizing:
    """Say when the largest decode batches, up to ``reach`` tokens, run eager."""
    largest = sizing.sizes[-1]
    if largest >= reach:
        return sizing
    above = eager_share(sizing.sizes, sizing.weights)
    share = f", {above:.0%} of the expected steps" if above else ""
    note = f"Decode batches of {largest + 1} to {reach} tokens run eager{share}: {_why_eager(sizing)}"
    return replace(sizing, notes=(*sizing.notes, note))


def _why_eager(sizing: Sizing) -> str:
    largest, unit, top = sizing.sizes[-1], sizing.candidates[0], sizing.candidates[-1]
    if largest < top:
        return f"graph.capture_sizes ends at {largest}; add {top}."
    if top + unit > MAX_CAPTURE_SIZE:
        return f"{top} is the largest size that vLLM Ascend captures; lower vllm.max_num_seqs, or accept it."
    return f"sizes are multiples of {unit}; make vllm.max_num_seqs one, too."


def _words(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))

"""The fallback ladder: the next lower plan after a failure, for the whole group at once.

Every step goes down in :func:`rung` order, which has finitely many rungs: fewer sizes in the same mode, then a cheaper
mode, then another runtime, then eager. So it ends, whatever fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ascend_serve.graph.failure import Failure, FailureKind, Step
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan, GraphRequest, Proposal
from ascend_serve.graph.ranks import name_ranks
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.graph.stream_budget import StreamBudget, fit_sizes, plan_keys

CHEAPER_MODE: Mapping[GraphMode, GraphMode] = MappingProxyType(
    {
        GraphMode.FULL: GraphMode.FULL_DECODE_ONLY,
        GraphMode.FULL_AND_PIECEWISE: GraphMode.FULL_DECODE_ONLY,
        GraphMode.FULL_DECODE_ONLY: GraphMode.NONE,
        GraphMode.PIECEWISE: GraphMode.NONE,
        GraphMode.NONE: GraphMode.NONE,
    }
)
"""The next mode with fewer or simpler graphs."""

MODES_UPWARDS = (
    GraphMode.NONE,
    GraphMode.PIECEWISE,
    GraphMode.FULL_DECODE_ONLY,
    GraphMode.FULL_AND_PIECEWISE,
    GraphMode.FULL,
)
"""Modes from the weakest to the strongest, along vLLM's own narrowing.

``CompilationConfig.resolve_cudagraph_mode_and_sizes`` (0.23.0, 0.32.0) narrows by the configuration, which is equal on
all ranks, and by the support of the attention backend, and only ever in this direction. So of two modes that ranks
resolved from one configuration, both ranks can run the weaker.
"""

RUNTIMES_UPWARDS = tuple(RUNTIMES)
"""Runtimes from the plainest to the most specialised."""


_SIZES_SHOWN = 16
"""How many sizes are named one by one in a sentence."""


def rung(plan: CapturePlan) -> tuple[int, int, int]:
    """Where a plan stands on the ladder: runtime, mode, number of sizes; a fallback always goes to a smaller one."""
    return RUNTIMES_UPWARDS.index(plan.runtime), MODES_UPWARDS.index(plan.mode), len(plan.capture_sizes)


def make_plan(
    request: GraphRequest,
    runtime: RuntimeName,
    mode: GraphMode,
    sizes: Sequence[int],
    *,
    epoch: int = 0,
    adjustments: tuple[Adjustment, ...] = (),
) -> CapturePlan:
    """Build a plan; one without anything to replay becomes the eager one."""
    traits = RUNTIMES[runtime]
    keys = plan_keys(request, mode, sizes) if traits.captures else ()
    if mode not in traits.modes or (traits.captures and not keys):
        return CapturePlan(epoch, RuntimeName.EAGER, GraphMode.NONE, (), (), adjustments)
    # Where nothing is captured, sizes only say how vLLM pads batches.
    padded = () if mode is GraphMode.NONE else tuple(sizes)
    return CapturePlan(epoch, runtime, mode, padded, keys, adjustments)


def describe(plan: CapturePlan) -> str:
    """A plan in a few words, for example ``aclgraph FULL_DECODE_ONLY at 1, 2, 4, 8``."""
    if plan.is_eager:
        return RuntimeName.EAGER.value
    sizes = plan.capture_sizes
    many = f"{len(sizes)} sizes up to {sizes[-1]}" if len(sizes) > _SIZES_SHOWN else ", ".join(map(str, sizes))
    return f"{plan.runtime.value} {plan.mode.value}{' at ' if sizes else ''}{many}"


def step_down(
    plan: CapturePlan,
    failure: Failure,
    request: GraphRequest,
    candidates: Sequence[int],
    budgets: Collection[StreamBudget],
) -> CapturePlan | None:
    """The next lower plan after ``failure``, or ``None`` when there is none or none is allowed.

    Args:
        plan: The plan that failed.
        failure: The failure that decides.
        request: What the configuration asks for, and how far the group may go down.
        candidates: Sizes that are valid on all ranks, ascending, in tokens.
        budgets: One per rank, with what has been learned.
    """
    if plan.is_eager or request.on_failure is OnFailure.FAIL:
        return None
    lower = _lower(plan, failure, request, candidates, budgets)
    adjustment = Adjustment("capture-failure", describe(plan), describe(lower), failure.reason)
    return replace(lower, epoch=plan.epoch + 1, adjustments=(*plan.adjustments, adjustment))


def changes_runtime(plan: CapturePlan, lower: CapturePlan) -> bool:
    """Whether going down needs another runtime to be built, which a worker does once, when it loads the model."""
    return lower.runtime is not plan.runtime and not lower.is_eager


def loaded_for_another(plan: CapturePlan, proposals: Mapping[int, Proposal]) -> str:
    """Why workers have to load anew for ``plan``, with proposals by rank; empty when they need not."""
    ranks = [rank for rank, told in proposals.items() if not plan.is_eager and told.loaded not in (None, plan.runtime)]
    if not ranks:
        return ""
    loaded = proposals[ranks[0]].loaded
    return (
        f"the group agreed on {plan.runtime.value}, and {name_ranks(sorted(ranks), {})} loaded the model for {loaded}"
    )


def eager_plan(plan: CapturePlan, reason: str) -> CapturePlan:
    """The end of the ladder, whatever stands between."""
    if plan.is_eager:
        return plan
    adjustment = Adjustment("capture-failure", describe(plan), RuntimeName.EAGER.value, reason)
    adjustments = (*plan.adjustments, adjustment)
    return CapturePlan(plan.epoch + 1, RuntimeName.EAGER, GraphMode.NONE, (), (), adjustments)


def _lower(
    plan: CapturePlan,
    failure: Failure,
    request: GraphRequest,
    candidates: Sequence[int],
    budgets: Collection[StreamBudget],
) -> CapturePlan:
    step = failure.treatment.step
    if request.on_failure is OnFailure.EAGER:
        return make_plan(request, RuntimeName.EAGER, GraphMode.NONE, ())
    lower = RUNTIMES[plan.runtime].lower
    if lower is not None and not RUNTIMES[plan.runtime].captures:
        # What a runtime without captures cannot do says nothing about the one below it.
        return make_plan(request, lower, request.mode, request.capture_sizes)
    reachable = [size for size in candidates if size <= plan.capture_sizes[-1]]
    if step is Step.SMALLER:
        sizes = _fewer_sizes(plan, failure, request, reachable, budgets)
        if sizes:
            return make_plan(request, plan.runtime, plan.mode, sizes)
    if step in (Step.SMALLER, Step.CHEAPER):
        return fit_mode(request, plan.runtime, CHEAPER_MODE[plan.mode], reachable, budgets)
    return make_plan(request, RuntimeName.EAGER, GraphMode.NONE, ())


def _fewer_sizes(
    plan: CapturePlan,
    failure: Failure,
    request: GraphRequest,
    reachable: Sequence[int],
    budgets: Collection[StreamBudget],
) -> tuple[int, ...]:
    at_most = len(plan.capture_sizes) - 1
    if failure.kind is FailureKind.OUT_OF_MEMORY and failure.key is not None:
        # Graphs share one memory pool, sized by the largest. When that one did not fit, only smaller ones may;
        # otherwise as many as were captured.
        captured = plan.keys.index(failure.key) if failure.key in plan.keys else 0
        if captured == 0:
            reachable = [size for size in reachable if size <= failure.key.num_tokens // 2]
        else:
            at_most = min(at_most, max(1, len(plan.capture_sizes) * captured // len(plan.keys)))
    return fit_sizes(request, plan.mode, reachable, budgets, at_most)


def fit_mode(
    request: GraphRequest,
    runtime: RuntimeName,
    mode: GraphMode,
    candidates: Sequence[int],
    budgets: Collection[StreamBudget],
) -> CapturePlan:
    """The best plan in ``mode`` or, when not one size fits, in the next cheaper one; eager at the end."""
    while mode is not GraphMode.NONE:
        sizes = fit_sizes(request, mode, candidates, budgets, request.max_sizes)
        if plan_keys(request, mode, sizes):
            return make_plan(request, runtime, mode, sizes)
        mode = CHEAPER_MODE[mode]
    return make_plan(request, RuntimeName.EAGER, GraphMode.NONE, ())


@dataclass(frozen=True, slots=True)
class Rung:
    """One step that the group could take, for a person.

    Attributes:
        runtime: The runtime after the step.
        mode: The mode after the step.
        text: What changes.
    """

    runtime: RuntimeName
    mode: GraphMode
    text: str


def ladder_steps(request: GraphRequest) -> tuple[Rung, ...]:
    """List the steps down from what was asked for, in order; empty when nothing may or can change."""
    eager = Rung(RuntimeName.EAGER, GraphMode.NONE, "eager on all ranks")
    if request.on_failure is OnFailure.FAIL or request.runtime is RuntimeName.EAGER:
        return ()
    if request.on_failure is OnFailure.EAGER:
        return (eager,)
    steps: list[Rung] = []
    runtime: RuntimeName = request.runtime
    mode = request.mode
    while not RUNTIMES[runtime].captures and (lower := RUNTIMES[runtime].lower) is not None:
        text = f"{RUNTIMES[lower].title} instead of {RUNTIMES[runtime].title}, with fresh workers"
        runtime = lower
        steps.append(Rung(runtime, mode, text))
    while mode is not GraphMode.NONE:
        steps.append(Rung(runtime, mode, f"fewer capture sizes in {mode.value}"))
        mode = CHEAPER_MODE[mode]
        if mode is not GraphMode.NONE:
            steps.append(Rung(runtime, mode, f"{mode.value}, as many sizes as fit"))
    return (*steps, eager) if steps else ()

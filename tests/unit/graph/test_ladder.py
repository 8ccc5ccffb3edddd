"""The fallback ladder: what comes after each failure, that it only goes down and that it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.graph.failure import TREATMENTS, Failure, FailureKind, Step
from ascend_serve.graph.ladder import (
    MODES_UPWARDS,
    changes_runtime,
    describe,
    eager_plan,
    ladder_steps,
    make_plan,
    rung,
    step_down,
)
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.graph.stream_budget import StreamBudget

SIZES = (1, 2, 4, 8, 16)
FULL, PIECEWISE, BOTH = GraphMode.FULL, GraphMode.PIECEWISE, GraphMode.FULL_AND_PIECEWISE
DECODE, NONE = GraphMode.FULL_DECODE_ONLY, GraphMode.NONE


def request(
    mode: GraphMode = BOTH,
    on_failure: OnFailure = OnFailure.DEGRADE,
    runtime: RuntimeName = RuntimeName.ACLGRAPH,
) -> GraphRequest:
    return GraphRequest(runtime, mode, SIZES, on_failure, max_num_seqs=16)


def plan_of(asked: GraphRequest, mode: GraphMode, sizes: tuple[int, ...] = SIZES) -> CapturePlan:
    return make_plan(asked, asked.runtime, mode, sizes, epoch=1)


def failure(kind: FailureKind, plan: CapturePlan, position: int = 0) -> Failure:
    return Failure(kind, "rank 1 in capture", "text", plan.keys[position % len(plan.keys)] if plan.keys else None)


# Class, mode, streams in all (one for each graph), position of the failed graph; lower plan and its sizes.
STEPS = [
    pytest.param(FailureKind.STREAM_EXHAUSTED, DECODE, 3, 3, "aclgraph FULL_DECODE_ONLY x 3", id="as many as fit"),
    pytest.param(FailureKind.STREAM_EXHAUSTED, BOTH, 5, 5, "aclgraph FULL_AND_PIECEWISE x 2", id="two graphs a size"),
    pytest.param(FailureKind.STREAM_EXHAUSTED, BOTH, 1, 1, "aclgraph FULL_DECODE_ONLY x 1", id="none of both: cheaper"),
    pytest.param(FailureKind.STREAM_EXHAUSTED, FULL, 0, 0, "eager", id="full without room: eager"),
    pytest.param(FailureKind.STREAM_EXHAUSTED, PIECEWISE, 2, 2, "aclgraph PIECEWISE x 2", id="piecewise: fewer"),
    pytest.param(FailureKind.STREAM_EXHAUSTED, PIECEWISE, 0, 0, "eager", id="piecewise: then none"),
    pytest.param(FailureKind.OUT_OF_MEMORY, DECODE, None, 2, "aclgraph FULL_DECODE_ONLY x 2", id="memory: as captured"),
    pytest.param(FailureKind.OUT_OF_MEMORY, DECODE, None, 0, "aclgraph FULL_DECODE_ONLY x 4", id="memory: largest out"),
    pytest.param(FailureKind.NOT_CAPTURABLE, BOTH, None, 0, "aclgraph FULL_DECODE_ONLY x 5", id="both: full only"),
    pytest.param(FailureKind.NOT_CAPTURABLE, FULL, None, 0, "aclgraph FULL_DECODE_ONLY x 5", id="full: decode only"),
    pytest.param(FailureKind.NOT_CAPTURABLE, DECODE, None, 0, "eager", id="decode only: eager"),
    pytest.param(FailureKind.NOT_CAPTURABLE, PIECEWISE, None, 0, "eager", id="piecewise: eager"),
    pytest.param(FailureKind.OLD_HDK, BOTH, None, 0, "eager", id="old HDK: no retry"),
    pytest.param(FailureKind.DEVICE_FAULT, BOTH, None, 0, "eager", id="device fault"),
    pytest.param(FailureKind.UNKNOWN, BOTH, None, 0, "eager", id="unknown"),
    pytest.param(FailureKind.LOST, BOTH, None, 0, "eager", id="lost again"),
    pytest.param(FailureKind.DEADLINE, BOTH, None, 0, "eager", id="hang"),
]


@pytest.mark.parametrize(("kind", "mode", "streams", "position", "lower"), STEPS)
def test_step_down(kind: FailureKind, mode: GraphMode, streams: int | None, position: int, lower: str) -> None:
    asked = request(mode)
    plan = plan_of(asked, mode)
    after = step_down(plan, failure(kind, plan, position), asked, SIZES, [StreamBudget(streams)])
    assert after is not None
    words = describe(after).partition(" at ")[0]
    assert (f"{words} x {len(after.capture_sizes)}" if after.keys else words) == lower


def test_an_exhausted_device_keeps_the_largest_size_and_memory_drops_it() -> None:
    asked = request(DECODE)
    plan = plan_of(asked, DECODE)
    fewer = step_down(plan, failure(FailureKind.STREAM_EXHAUSTED, plan, 2), asked, SIZES, [StreamBudget(2)])
    smaller = step_down(plan, failure(FailureKind.OUT_OF_MEMORY, plan, 0), asked, SIZES, [StreamBudget()])
    assert fewer is not None
    assert smaller is not None
    assert (fewer.capture_sizes[-1], smaller.capture_sizes[-1]) == (16, 8)


def test_the_step_is_in_the_adjustments_with_its_reason() -> None:
    asked = request(DECODE)
    plan = plan_of(asked, DECODE, (1, 2))
    after = step_down(plan, failure(FailureKind.UNKNOWN, plan), asked, SIZES, [])
    assert after is not None
    adjustment = after.adjustments[-1]
    assert (adjustment.before, adjustment.after) == ("aclgraph FULL_DECODE_ONLY at 1, 2", "eager")
    assert adjustment.reason == "rank 1 in capture: unknown: text"
    assert after.epoch == plan.epoch + 1


ALLOWED = [
    pytest.param(OnFailure.DEGRADE, "aclgraph FULL_DECODE_ONLY", id="degrade goes one step"),
    pytest.param(OnFailure.EAGER, "eager", id="eager skips the steps between"),
    pytest.param(OnFailure.FAIL, None, id="fail goes nowhere"),
]


@pytest.mark.parametrize(("on_failure", "lower"), ALLOWED)
def test_on_failure_says_how_far(on_failure: OnFailure, lower: str | None) -> None:
    asked = request(BOTH, on_failure)
    plan = plan_of(asked, BOTH)
    after = step_down(plan, failure(FailureKind.NOT_CAPTURABLE, plan), asked, SIZES, [])
    assert (after and describe(after).partition(" at ")[0]) == lower


@pytest.mark.parametrize("kind", list(FailureKind))
def test_xlite_goes_to_aclgraph_which_needs_other_workers(kind: FailureKind) -> None:
    asked = request(DECODE, runtime=RuntimeName.XLITE)
    plan = make_plan(asked, RuntimeName.XLITE, DECODE, SIZES)
    after = step_down(plan, failure(kind, plan), asked, SIZES, [])
    assert after is not None
    assert (after.runtime, after.mode) == (RuntimeName.ACLGRAPH, DECODE)
    assert changes_runtime(plan, after)


def test_eager_is_the_end() -> None:
    asked = request()
    eager = eager_plan(plan_of(asked, BOTH), "because")
    assert eager.is_eager
    assert step_down(eager, Failure(FailureKind.UNKNOWN, "rank 0"), asked, SIZES, []) is None
    assert eager_plan(eager, "again") is eager
    assert not changes_runtime(plan_of(asked, BOTH), eager)


@given(
    mode=st.sampled_from(MODES_UPWARDS[1:]),
    runtime=st.sampled_from([RuntimeName.ACLGRAPH, RuntimeName.XLITE]),
    kinds=st.lists(st.sampled_from(list(FailureKind)), min_size=30, max_size=30),
    positions=st.lists(st.integers(0, 100), min_size=30, max_size=30),
    budget=st.one_of(st.none(), st.integers(0, 12)),
)
def test_the_ladder_only_goes_down_and_ends(
    mode: GraphMode, runtime: RuntimeName, kinds: list[FailureKind], positions: list[int], budget: int | None
) -> None:
    asked = request(mode, runtime=runtime)
    plan = make_plan(asked, runtime, mode, SIZES)
    for kind, position in zip(kinds, positions, strict=True):
        assert plan.is_eager is (plan.mode not in RUNTIMES[plan.runtime].modes)
        if plan.is_eager:
            break
        failed = failure(kind, plan, position)
        lower = step_down(plan, failed, asked, SIZES, [StreamBudget(budget)])
        assert lower is not None
        assert rung(lower) < rung(plan)
        plan = lower
    assert plan.is_eager


LADDERS = [
    pytest.param(
        request(BOTH),
        [
            "fewer capture sizes in FULL_AND_PIECEWISE",
            "FULL_DECODE_ONLY, as many sizes as fit",
            "fewer capture sizes in FULL_DECODE_ONLY",
            "eager on all ranks",
        ],
        id="the default",
    ),
    pytest.param(request(PIECEWISE), ["fewer capture sizes in PIECEWISE", "eager on all ranks"], id="piecewise"),
    pytest.param(
        request(DECODE, runtime=RuntimeName.XLITE),
        [
            "ACLGraph instead of Xlite, with fresh workers",
            "fewer capture sizes in FULL_DECODE_ONLY",
            "eager on all ranks",
        ],
        id="xlite",
    ),
    pytest.param(request(BOTH, OnFailure.EAGER), ["eager on all ranks"], id="straight to eager"),
    pytest.param(request(BOTH, OnFailure.FAIL), [], id="fail"),
    pytest.param(request(NONE), [], id="eager was asked for"),
]


@pytest.mark.parametrize(("asked", "texts"), LADDERS)
def test_the_steps_in_words(asked: GraphRequest, texts: list[str]) -> None:
    assert [step.text for step in ladder_steps(asked)] == texts


def test_a_step_never_needs_more_than_the_budget() -> None:
    assert Step.SMALLER is TREATMENTS[FailureKind.STREAM_EXHAUSTED].step
    asked = request(BOTH)
    plan = plan_of(asked, BOTH)
    budget = StreamBudget(total=100, per_full=10, per_piecewise=40)
    after = step_down(plan, failure(FailureKind.STREAM_EXHAUSTED, plan, 3), asked, SIZES, [StreamBudget(), budget])
    assert after is not None
    assert after.capture_sizes[-1] == 16
    assert len(after.capture_sizes) == 2
    assert budget.cost(after.keys) == 100

"""What steps replayed, and the metrics of it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.telemetry.metrics import StoryCollector
from ascend_serve.telemetry.step_meter import StepMeter
from ascend_serve.telemetry.story import Story
from tests.unit.cli.test_status import whole_start

SIZES = (1, 4, 8)


def plan(mode: GraphMode, runtime: RuntimeName = RuntimeName.ACLGRAPH, sizes: tuple[int, ...] = SIZES) -> CapturePlan:
    return CapturePlan(1, runtime, mode, sizes, capture_keys(mode, sizes, max_num_seqs=8))


DECODE_ONLY = plan(GraphMode.FULL_DECODE_ONLY)
DECODE = {1: 10, 3: 5, 9: 2}
MIXED = {3: 1, 100: 4}


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param(
            DECODE_ONLY,
            {
                "decode exact FULL 1": (10, 10, 0),
                "decode padded FULL 4": (5, 15, 5),
                "decode eager NONE None": (2, 18, 0),
                "mixed eager NONE None": (5, 403, 0),
            },
            id="decodes alone are replayed",
        ),
        pytest.param(
            plan(GraphMode.FULL_AND_PIECEWISE),
            {
                "decode exact FULL 1": (10, 10, 0),
                "decode padded FULL 4": (5, 15, 5),
                "decode eager NONE None": (2, 18, 0),
                "mixed padded PIECEWISE 4": (1, 3, 1),
                "mixed eager NONE None": (4, 400, 0),
            },
            id="mixed batches have graphs of their own",
        ),
        pytest.param(
            plan(GraphMode.NONE, RuntimeName.EAGER, ()),
            {"decode eager NONE None": (17, 43, 0), "mixed eager NONE None": (5, 403, 0)},
            id="eager",
        ),
        pytest.param(
            None,
            {"decode eager NONE None": (17, 43, 0), "mixed eager NONE None": (5, 403, 0)},
            id="no plan",
        ),
        pytest.param(
            plan(GraphMode.NONE, RuntimeName.XLITE, ()),
            {"decode exact NONE None": (17, 43, 0), "mixed exact NONE None": (5, 403, 0)},
            id="xlite in its full mode",
        ),
        pytest.param(
            plan(GraphMode.FULL_DECODE_ONLY, RuntimeName.XLITE),
            {
                "decode exact FULL 1": (10, 10, 0),
                "decode padded FULL 4": (5, 15, 5),
                "decode eager NONE None": (2, 18, 0),
                "mixed eager NONE None": (5, 403, 0),
            },
            id="xlite",
        ),
    ],
)
def test_how_steps_ran(held: CapturePlan | None, expected: dict[str, tuple[int, int, int]]) -> None:
    meter = StepMeter()
    meter.take(DECODE, MIXED, held)
    told = {
        f"{kind} {replay} {mode} {size}": (total.steps, total.tokens, total.padding)
        for (kind, replay, mode, size), total in meter.totals.items()
    }
    assert told == expected


def test_steps_count_for_the_plan_that_held_and_once() -> None:
    meter = StepMeter()
    meter.take({3: 5}, {}, DECODE_ONLY)
    meter.take({3: 5}, {}, DECODE_ONLY)
    meter.take({3: 7}, {}, plan(GraphMode.FULL_DECODE_ONLY, sizes=(3, 8)))
    meter.begin_again()
    meter.take({3: 1}, {}, DECODE_ONLY)
    steps = {(replay, size): total.steps for (_, replay, _, size), total in meter.totals.items()}
    assert steps == {("padded", 4): 6, ("exact", 3): 2}
    assert meter.decode == {3: 8}


def test_an_answer_that_comes_late_is_not_counted_again() -> None:
    meter = StepMeter()
    for counted in (5, 3, 6):
        meter.take({1: counted}, {}, DECODE_ONLY)
    assert meter.decode == {1: 6}


def test_metrics_are_what_events_and_steps_came_to() -> None:
    meter, registry = StepMeter(), CollectorRegistry()
    registry.register(StoryCollector(Story.of(whole_start()), meter))
    meter.take(DECODE, MIXED, DECODE_ONLY)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"ascend_serve_{name}", labels)

    padded = {"kind": "decode", "replay": "padded", "mode": "FULL", "size": "4"}
    assert value("steps_total", **padded) == 5
    assert value("step_tokens_total", **padded) == 15
    assert value("padding_tokens_total", **padded) == 5
    assert value("steps_total", kind="mixed", replay="eager", mode="NONE", size="") == 5
    assert value("streams_left", rank="1") == 0
    assert value("streams_used", rank="1") == 3
    assert value("capture_failures_total", failure="stream_exhausted") == 4
    assert value("plan_changes_total", kind="replanned") == 2
    assert value("plan_changes_total", kind="recaptured") == 0

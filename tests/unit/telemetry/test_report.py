from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ascend_serve.graph.plan import Adjustment
from ascend_serve.telemetry.metrics import ReplicaMetrics
from ascend_serve.telemetry.report import GraphReport, build_report

BUDGET = {"rule": "stream-budget", "before": "1 2 4 8", "after": "2 8", "reason": "Rank 1 has room for two graphs."}
PLANNED = Adjustment("backend", "FULL", "FULL_DECODE_ONLY", "The attention backend runs uniform batches only.")


def snapshot(
    runtime: str = "aclgraph", mode: str = "FULL", sizes: tuple[int, ...] = (2, 8), **more: Any
) -> dict[str, Any]:
    plan = {"runtime": runtime, "mode": mode, "capture_sizes": list(sizes), "keys": [f"FULL/{size}" for size in sizes]}
    ranks = [
        {"rank": rank, "node": "10.0.0.1", "pid": 100 + rank, "incarnation": 0, "graphs": len(sizes)}
        | {"capture_seconds": 0.5, "streams_used": 8, "streams_left": 40, "state": "serve"}
        for rank in range(2)
    ]
    return {"group": "g", "phase": "serve", "plan": plan, "ranks": ranks, "seconds": {"capture": 1.23456}, **more}


def report(known: dict[str, Any], planned: tuple[Adjustment, ...] = (), **more: Any) -> GraphReport:
    return build_report(
        known, requested_runtime="aclgraph", requested_mode="FULL", planned=planned, seconds={"total": 30.0}, **more
    )


@pytest.mark.parametrize(
    ("known", "planned", "outcome"),
    [
        pytest.param(snapshot(), (), "graph", id="all that was asked for"),
        pytest.param(snapshot(adjustments=[BUDGET]), (), "degraded", id="fewer sizes after capture"),
        pytest.param(snapshot(), (PLANNED,), "degraded", id="a mode that was narrowed before the start"),
        pytest.param(snapshot("eager", "NONE", ()), (), "eager", id="eager runtime"),
        pytest.param(snapshot("aclgraph", "NONE", ()), (), "eager", id="aclgraph without a mode"),
        pytest.param(snapshot("xlite", "NONE", ()), (), "graph", id="xlite replays without capture"),
        pytest.param({}, (), "eager", id="no capture session"),
        pytest.param({"plan": None, "phase": "join"}, (), "eager", id="nothing agreed on yet"),
    ],
)
def test_outcome(known: dict[str, Any], planned: tuple[Adjustment, ...], outcome: str) -> None:
    assert report(known, planned).outcome == outcome


def test_says_what_was_asked_for_and_what_holds() -> None:
    told = report(snapshot(mode="FULL_DECODE_ONLY", adjustments=[BUDGET]), (PLANNED,))
    assert (told.requested_mode, told.effective_mode) == ("FULL", "FULL_DECODE_ONLY")
    assert told.capture_sizes == (2, 8)
    assert [adjustment.rule for adjustment in told.adjustments] == ["backend", "stream-budget"]
    assert told.seconds == {"capture": 1.235, "total": 30.0}
    assert [(rank.rank, rank.graphs, rank.streams_left) for rank in told.ranks] == [(0, 2, 40), (1, 2, 40)]


def test_an_adjustment_that_planner_and_driver_know_is_told_once() -> None:
    known = {"rule": PLANNED.rule, "before": PLANNED.before, "after": PLANNED.after, "reason": PLANNED.reason}
    assert len(report(snapshot(adjustments=[known]), (PLANNED,)).adjustments) == 1


def test_json_is_stable() -> None:
    told = report(snapshot())
    assert GraphReport.model_validate_json(told.model_dump_json()) == told
    assert list(told.model_dump()) == [
        "outcome",
        "requested_mode",
        "effective_mode",
        "requested_runtime",
        "runtime",
        "capture_sizes",
        "adjustments",
        "options",
        "ranks",
        "events",
        "seconds",
        "profiler_dir",
    ]


ON = {"npugraph_ex": {"on": True, "reason": "on by default in mode FULL_DECODE_ONLY"}}


def test_what_was_decided_of_npugraph_ex_is_told() -> None:
    told = report(snapshot(), options=ON).options["npugraph_ex"]
    assert told.model_dump() == ON["npugraph_ex"]


def test_npugraph_ex_is_off_where_the_group_went_down_to_eager() -> None:
    told = report(snapshot("eager", "NONE", ()), options=ON).options["npugraph_ex"]
    assert not told.on
    assert "eager NONE" in told.reason


def test_metrics_follow_the_report() -> None:
    registry = CollectorRegistry()
    ReplicaMetrics(registry).show(report(snapshot(adjustments=[BUDGET])))
    value = registry.get_sample_value
    assert value("ascend_serve_graph_outcome", {"outcome": "degraded"}) == 1
    assert value("ascend_serve_graph_outcome", {"outcome": "graph"}) == 0
    assert value("ascend_serve_graphs", {"rank": "1"}) == 2
    assert value("ascend_serve_start_seconds", {"phase": "total"}) == 30.0

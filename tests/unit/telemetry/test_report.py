from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.roster import RankState
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.events import AnyEvent, Captured, EngineDied, EngineRestarted, EngineStalled, RestartFailed
from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan, Switch
from ascend_serve.telemetry.metrics import ReplicaMetrics
from ascend_serve.telemetry.report import GraphReport, build_report

BUDGET = Adjustment("stream-budget", "1 2 4 8", "2 8", "Rank 1 has room for two graphs.")
PLANNED = Adjustment("backend", "FULL", "FULL_DECODE_ONLY", "The attention backend runs uniform batches only.")


def snapshot(
    runtime: RuntimeName = RuntimeName.ACLGRAPH,
    mode: GraphMode = GraphMode.FULL,
    sizes: tuple[int, ...] = (2, 8),
    *adjustments: Adjustment,
) -> Snapshot:
    keys = capture_keys(mode, sizes, max_num_seqs=8)
    ranks = tuple(
        RankState(rank, "10.0.0.1", 100 + rank, graphs=len(sizes), capture_seconds=0.5, streams_left=40)
        for rank in range(2)
    )
    return Snapshot(
        Phase.SERVE,
        plan=CapturePlan(1, runtime, mode, sizes, keys, adjustments),
        ranks=ranks,
        events=(Captured(time=1e9, rank=1, key=keys[0].label),) if keys else (),
        seconds={"capture": 1.23456},
    )


def report(known: Snapshot | None, planned: tuple[Adjustment, ...] = (), **more: Any) -> GraphReport:
    return build_report(
        known,
        requested_runtime=RuntimeName.ACLGRAPH,
        requested_mode=GraphMode.FULL,
        planned=planned,
        seconds={"total": 30.0},
        **more,
    )


NARROWED = snapshot(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, (2, 8), BUDGET)
EAGER = snapshot(RuntimeName.EAGER, GraphMode.NONE, ())


@pytest.mark.parametrize(
    ("known", "planned", "outcome"),
    [
        pytest.param(snapshot(), (), "graph", id="all that was asked for"),
        pytest.param(NARROWED, (), "degraded", id="fewer sizes after capture"),
        pytest.param(snapshot(), (PLANNED,), "degraded", id="a mode that was narrowed before the start"),
        pytest.param(EAGER, (), "eager", id="eager runtime"),
        pytest.param(snapshot(RuntimeName.XLITE, GraphMode.NONE, ()), (), "graph", id="xlite replays without capture"),
        pytest.param(None, (), "eager", id="no capture session"),
        pytest.param(Snapshot(Phase.JOIN), (), "eager", id="nothing agreed on yet"),
    ],
)
def test_outcome(known: Snapshot | None, planned: tuple[Adjustment, ...], outcome: str) -> None:
    assert report(known, planned).outcome == outcome


def test_says_what_was_asked_for_and_what_holds() -> None:
    told = report(NARROWED, (PLANNED,))
    assert (told.requested_mode, told.effective_mode) == ("FULL", "FULL_DECODE_ONLY")
    assert told.capture_sizes == (2, 8)
    assert [adjustment.rule for adjustment in told.adjustments] == ["backend", "stream-budget"]
    assert told.seconds == {"capture": 1.235, "total": 30.0}
    assert [(rank.rank, rank.graphs, rank.streams_left) for rank in told.ranks] == [(0, 2, 40), (1, 2, 40)]


def test_an_adjustment_that_planner_and_driver_know_is_told_once() -> None:
    known = snapshot(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, (2, 8), PLANNED)
    assert len(report(known, (PLANNED,)).adjustments) == 1


DIED, FAILED = EngineDied(time=50.0), RestartFailed(time=60.0)
BACK, STALLED = EngineRestarted(time=70.0, seconds=20.0), EngineStalled(time=80.0)


@pytest.mark.parametrize(
    ("events", "since"),
    [
        pytest.param((), None, id="nothing was lost"),
        pytest.param((DIED,), 50.0, id="lost"),
        pytest.param((DIED, FAILED), 50.0, id="a start that failed"),
        pytest.param((DIED, BACK), None, id="replaced"),
        pytest.param((DIED, BACK, STALLED), 80.0, id="lost again"),
    ],
)
def test_while_an_engine_is_replaced_it_says_since_when(events: tuple[AnyEvent, ...], since: float | None) -> None:
    known = replace(snapshot(), events=events)
    assert report(known).recovering_since == since


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
        "recovering_since",
    ]


def test_the_json_is_what_clients_know() -> None:
    told = report(NARROWED, options=ON).model_dump(mode="json")
    assert (told["effective_mode"], told["runtime"]) == ("FULL_DECODE_ONLY", "aclgraph")
    assert told["adjustments"] == [asdict(BUDGET)]
    assert told["options"] == {"npugraph_ex": asdict(ON["npugraph_ex"])}
    assert told["ranks"][1] == {
        "rank": 1,
        "node": "10.0.0.1",
        "pid": 101,
        "incarnation": 0,
        "graphs": 2,
        "capture_seconds": 0.5,
        "streams_used": None,
        "streams_left": 40,
        "instruction_set": "",
        "state": "",
        "graph_memory": None,
    }
    (event,) = told["events"]
    expected = {"kind": "captured", "time": 1e9, "incarnation": 0, "rank": 1, "key": "FULL/8", "text": ""}
    assert event == {**expected, "seconds": 0.0, "streams_used": None, "streams_left": None, "memory": None}


ON = {"npugraph_ex": Switch(True, "on by default in mode FULL_DECODE_ONLY")}


def test_what_was_decided_of_npugraph_ex_is_told() -> None:
    assert report(snapshot(), options=ON).options == ON


def test_npugraph_ex_is_off_where_the_group_went_down_to_eager() -> None:
    told = report(EAGER, options=ON).options["npugraph_ex"]
    assert not told.on
    assert "eager NONE" in told.reason


def test_metrics_follow_the_report() -> None:
    registry = CollectorRegistry()
    ReplicaMetrics(registry).show(report(NARROWED))
    value = registry.get_sample_value
    assert value("ascend_serve_graph_outcome", {"outcome": "degraded"}) == 1
    assert value("ascend_serve_graph_outcome", {"outcome": "graph"}) == 0
    assert value("ascend_serve_graphs", {"rank": "1"}) == 2
    assert value("ascend_serve_start_seconds", {"phase": "total"}) == 30.0

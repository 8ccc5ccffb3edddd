"""The log of events: in memory, as lines of JSON, and what they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ascend_serve.capture.messages import Phase
from ascend_serve.errors import EventFileError
from ascend_serve.events import (
    Captured,
    EngineDied,
    EngineRestarted,
    Event,
    EventKind,
    PhaseEnded,
    Ready,
    Started,
)
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import Adjustment, GraphRequest
from ascend_serve.telemetry.event_log import EventLog, latest_file, read_events
from ascend_serve.telemetry.story import Story
from tests.unit.capture.simulated import Device, Fault, Group, able

ASKED = GraphRequest(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, (1, 2, 4, 8), OnFailure.DEGRADE, max_num_seqs=8)
PLANNED = Adjustment("backend", "FULL", "FULL_DECODE_ONLY", "The attention backend runs uniform batches only.")
STARTED = Started(
    time=0.0,
    name="demo",
    requested_runtime=RuntimeName.ACLGRAPH,
    requested_mode=GraphMode.FULL,
    planned=(PLANNED,),
)


def session(*faults: Fault, quota: int | None = None, ranks: int = 2) -> list[Event]:
    """Events of a whole session, on devices with so many streams."""
    group = Group(ASKED, ranks, list(faults), prepare=lambda rank: (able(ASKED), Device(quota)))
    group.run()
    return group.session.events


def many(count: int) -> list[Event]:
    return [Captured(time=float(number), rank=0, key=f"FULL/{number}") for number in range(count)]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    log = EventLog.kept("Qwen/Qwen3-8B", tmp_path)
    log.append(STARTED, *session())
    log.append(Ready(time=9.0))
    assert log.file is not None
    assert tuple(read_events(log.file)) == log.events
    assert log.file.stat().st_mode & 0o777 == 0o600
    assert "Qwen_Qwen3-8B" in log.file.name


def test_both_have_a_bound_and_keep_how_it_began(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "1.jsonl", most_bytes=20_000, most_events=100)
    log.append(STARTED)
    sizes = []
    for event in many(1000):
        log.append(event)
        assert log.file is not None
        sizes.append(log.file.stat().st_size)
    assert max(sizes) <= 20_000
    assert len(log.events) == 101
    assert log.count == 1001
    assert log.events[0] == STARTED
    (first, *_, last) = read_events(tmp_path / "1.jsonl")
    assert (first, last.key) == (STARTED, "FULL/999")


def test_where_nothing_can_be_written_events_are_told_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    log = EventLog.kept("demo", tmp_path / "file")
    log.append(STARTED)
    assert log.events == (STARTED,)
    assert "not kept" in caplog.text


def test_whoever_waits_hears_of_the_next_event() -> None:
    async def scenario() -> list[int]:
        log = EventLog()
        waiting = [asyncio.create_task(log.more(0)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        log.append(*many(3))
        return [await task for task in waiting] + [await log.more(2)]

    assert asyncio.run(scenario()) == [3, 3, 3]


def test_the_newest_file_of_a_deployment_is_found(tmp_path: Path) -> None:
    for number, name in enumerate(["a", "b", "a", "c"]):
        EventLog(tmp_path / f"2026-01-0{number}.jsonl").append(STARTED.model_copy(update={"name": name}))
    found = {name: latest_file(name, tmp_path) for name in ("a", "b", "d", None)}
    assert {name: file and file.stem for name, file in found.items()} == {
        "a": "2026-01-02",
        "b": "2026-01-01",
        "d": None,
        None: "2026-01-03",
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("report: all well\n", "holds no events", id="something else"),
    ],
)
def test_a_file_that_holds_no_events_is_refused(tmp_path: Path, text: str | None, error: str) -> None:
    file = tmp_path / "f.jsonl"
    if text is not None:
        file.write_text(text)
    with pytest.raises(EventFileError, match=error) as raised:
        list(read_events(file))
    assert "events" in raised.value.remedy


def test_events_of_a_later_version_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(f'{{"kind": "teleported", "time": 1}}\n{STARTED.model_dump_json()}\n{{"cut')
    assert list(read_events(file)) == [STARTED]


def report_of(events: Sequence[Event]) -> dict[str, object]:
    return Story.of([STARTED, PhaseEnded(time=1.0, phase="total", seconds=30.0), *events]).report().model_dump()


def test_the_report_is_a_fold_over_the_events() -> None:
    told = report_of(session(quota=3))
    assert told["outcome"] == "degraded"
    assert (told["requested_mode"], told["effective_mode"]) == ("FULL", "FULL_DECODE_ONLY")
    assert told["capture_sizes"] == (2, 4, 8)
    adjustments = told["adjustments"]
    assert isinstance(adjustments, tuple)
    assert adjustments[0] == asdict(PLANNED)
    assert len(adjustments) > 1
    ranks = told["ranks"]
    assert isinstance(ranks, tuple)
    assert [(rank["rank"], rank["graphs"], rank["state"]) for rank in ranks] == [(0, 3, "sealed"), (1, 3, "sealed")]
    seconds = told["seconds"]
    assert isinstance(seconds, dict)
    assert seconds.keys() == {"agree", "capture", "total"}


def test_what_was_given_up_stays_known() -> None:
    story = Story.of([STARTED, *session(Fault(1, Phase.CAPTURE, "unknown", 4))])
    kinds = [step.kind for step in story.steps]
    assert kinds == [
        EventKind.AGREED,
        EventKind.FAILED,
        EventKind.REPLACED,
        EventKind.AGREED,
        EventKind.SEALED,
    ]


def test_the_times_of_a_new_engine_are_its_own() -> None:
    first = session()
    again = [event.model_copy(update={"time": event.time + 100, "incarnation": 1}) for event in session()]
    lost, back = EngineDied(time=50.0), EngineRestarted(time=150.0, seconds=100.0)
    assert report_of(first)["seconds"] == report_of([*first, lost, *again, back])["seconds"]


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_order_in_which_ranks_are_heard_between_two_meetings_changes_nothing(data: st.DataObject) -> None:
    """Messages of ranks come over Ray in any order; so do their events."""
    quota = data.draw(st.sampled_from([None, 0, 2, 3]))
    events = session(quota=quota, ranks=3)
    shuffled: list[Event] = []
    alike: list[Event] = []
    for event in [*events, None]:
        if alike and (event is None or event.kind is not alike[0].kind):
            shuffled.extend(data.draw(st.permutations(alike)))
            alike = []
        if event is not None:
            alike.append(event)
    moments = [event.time for event in events]
    shuffled = [event.model_copy(update={"time": time}) for event, time in zip(shuffled, moments, strict=True)]
    assert report_of(shuffled) == report_of(events)

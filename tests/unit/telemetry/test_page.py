"""The page at ``/graph``: what it shows of a story, that it needs nothing from elsewhere, and that it escapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest

from ascend_serve.capture.messages import Phase
from ascend_serve.events import (
    Aborted,
    AnyEvent,
    Captured,
    CaptureFailed,
    EngineDied,
    Event,
    Joined,
    Ready,
    Sealed,
    StartFailed,
    Warming,
)
from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan
from ascend_serve.telemetry.page import PARTS, GraphPage
from ascend_serve.telemetry.page_view import LiveNumbers, NamedText, PageView, page_view
from ascend_serve.telemetry.story import Story
from tests.unit.capture.simulated import Fault
from tests.unit.cli.test_status import whole_start
from tests.unit.telemetry.test_event_log import STARTED, session

VOID = frozenset({"meta", "br", "rect", "line"})
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Document(HTMLParser):
    """Reads a document, and refuses one whose elements do not close in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(" ".join(self.words).split())


def shown(events: Sequence[Event], numbers: LiveNumbers | None = None) -> Document:
    return Document(GraphPage().whole(page_view(Story.of(events), numbers, live=numbers is not None, now=0.0)))


def rows(events: Sequence[Event]) -> list[tuple[str, list[str]]]:
    """Ranks with the names of their cells."""
    return [(row.ranks, [cell.name for cell in row.cells]) for row in page_view(Story.of(events)).matrix.rows]


PLAN = CapturePlan(
    1,
    RuntimeName.ACLGRAPH,
    GraphMode.FULL_DECODE_ONLY,
    (1, 2, 4, 8),
    capture_keys(GraphMode.FULL_DECODE_ONLY, (1, 2, 4, 8), max_num_seqs=8),
)


def until(kind: type[Event], count: int = 1, **faults: object) -> list[Event]:
    """A session up to the event of that kind that is so many."""
    told: list[Event] = []
    for event in session(**faults):  # type: ignore[arg-type]
        told.append(event)
        count -= isinstance(event, kind)
        if not count:
            break
    return told


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([], [], id="nothing yet"),
        pytest.param(until(Joined, 2), [("0 to 1", [])], id="all are there"),
        pytest.param(
            until(Warming), [("0 to 1", ["planned", "planned", "planned", "capturing"])], id="the first is captured"
        ),
        pytest.param(
            until(Captured),
            [
                ("0", ["planned", "planned", "planned", "captured"]),
                ("1", ["planned", "planned", "planned", "capturing"]),
            ],
            id="one rank is faster",
        ),
        pytest.param(until(Sealed), [("0 to 1", ["held"] * 4)], id="sealed"),
        pytest.param(
            until(CaptureFailed, quota=2),
            [("0", ["planned", "failed", "held", "held"]), ("1", ["planned", "capturing", "held", "held"])],
            id="refused",
        ),
        pytest.param(session(quota=3), [("0 to 1", ["failed", "held", "held", "held"])], id="without what was refused"),
        pytest.param([STARTED, *session(), EngineDied(time=99.0)], [("0 to 1", [])], id="the engine is lost"),
    ],
)
def test_ranks_by_graphs(events: list[Event], expected: list[tuple[str, list[str]]]) -> None:
    assert rows(events) == expected


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        pytest.param([STARTED], ["starting", "ranks load the model"], id="starts"),
        pytest.param([STARTED, *until(Warming)], ["Now at FULL/8. 0 of 4 graphs"], id="captures"),
        pytest.param([STARTED, *session(), Ready(time=9.0)], ["degraded: less", "It serves."], id="serves"),
        pytest.param(
            [STARTED, *session(), Ready(time=9.0), Aborted(time=9.9, text="rank 1 was killed")],
            ["away: no engine answers", "The engine was lost."],
            id="is lost",
        ),
        pytest.param(
            [STARTED, *session(), Ready(time=9.0), EngineDied(time=10.0, text="rank 1 was killed")],
            ["away: no engine answers", "is being replaced", "Cause: rank 1 was killed"],
            id="recovers",
        ),
        pytest.param(
            [STARTED, StartFailed(time=1.0, text="no NPUs", advice="Add a node.")],
            ["did not start", "Cause: no NPUs", "What to do: Add a node."],
            id="did not start",
        ),
        pytest.param(
            [STARTED, *session(Fault(1, Phase.CAPTURE, "out_of_memory", 4)), Ready(time=9.0)],
            ["Cause: rank 1 (node-0) in capture of FULL/4: out of memory", "gpu_memory_utilization"],
            id="less than was asked for",
        ),
    ],
)
def test_says_what_goes_on_and_why(events: list[Event], parts: list[str]) -> None:
    text = shown(events).text
    assert [part for part in parts if part not in text] == []


def test_batch_sizes_with_what_padding_costs_and_what_other_sizes_would_save() -> None:
    numbers = LiveNumbers((NamedText("requests waiting", "3"),), {1: 50, 3: 100, 9: 1}, (1, 3, 8))
    text = shown(session(quota=3), numbers).text
    for part in (
        "151 decode steps so far. Captured sizes: 2, 4, 8. Padding wastes 42.9% of the replayed.",
        "With 1, 3, 8 it would be 0.0%: graph.replan=idle captures such sizes.",
        "3 100 66.2% of the steps graph of 4 33%",
        "9 1 0.7% of the steps eager none",
        "requests waiting 3",
    ):
        assert part in text


def test_the_last_start_and_the_ladder() -> None:
    text = shown(whole_start()).text
    for part in (
        "load 12.0",
        "12.0 s in all.",
        "Asked for: aclgraph FULL. In force: aclgraph FULL_DECODE_ONLY at 2, 4, 8.",
    ):
        assert part in text


def test_nothing_comes_from_elsewhere_and_no_script_runs_but_its_own() -> None:
    document = shown(whole_start(), LiveNumbers())
    named = [value for _, attributes in document.tags for name, value in attributes.items() if name in ("src", "href")]
    assert [value for value in named if value and not value.startswith("#")] == []
    assert not {name for _, attributes in document.tags for name in attributes if name.startswith(("on", "style"))}
    assert [tag for tag, _ in document.tags].count("script") == 1
    assert "script" not in {tag for tag, _ in shown(whole_start()).tags}
    page = GraphPage()
    assert "unsafe" not in page.policy
    assert page.policy.startswith("default-src 'none'")


def hostile() -> list[AnyEvent]:
    adjustment = Adjustment(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    plan = CapturePlan(1, PLAN.runtime, PLAN.mode, PLAN.capture_sizes, PLAN.keys, (adjustment,))
    return [
        STARTED.model_copy(update={"name": HOSTILE, "planned": (adjustment,), "versions": {HOSTILE: HOSTILE}}),
        Joined(time=1.0, rank=0, node=HOSTILE, ranks=1),
        CaptureFailed(time=2.0, rank=0, key=HOSTILE, text=HOSTILE, advice=HOSTILE),
        Sealed(time=3.0, plan=plan, text=HOSTILE),
        EngineDied(time=4.0, text=HOSTILE),
    ]


@pytest.mark.parametrize("numbers", [None, LiveNumbers((NamedText(HOSTILE, HOSTILE),))], ids=["a file", "a replica"])
def test_whatever_it_is_told_is_text(numbers: LiveNumbers | None) -> None:
    document = shown(hostile(), numbers)
    assert "img" not in {tag for tag, _ in document.tags}
    assert document.text.count("{{ 7 * 7 }}") >= 8
    assert HOSTILE in "".join(document.words)


def test_every_part_stands_in_a_place_of_its_own() -> None:
    view: PageView = page_view(Story.of(whole_start()), LiveNumbers((NamedText("a", "b"),)), live=True)
    page = GraphPage()
    whole, parts = page.whole(view), page.parts(view)
    assert parts.keys() == PARTS.keys()
    for part, html in parts.items():
        assert re.search(rf'<div id="{part}"[^>]*>{re.escape(html)}</div>', whole), part
        Document(html)


def test_a_log_is_told_apart_from_what_happened() -> None:
    text = shown([STARTED, *session(), EngineDied(time=99.0, text="rank 1 was killed\nits log says")]).text
    assert "Cause: rank 1 was killed The whole account its log says" in text
    assert text.count("its log says") == 2  # and among what happened


def test_every_colour_has_its_words() -> None:
    document = shown(session(quota=3))
    cells = [
        attributes for tag, attributes in document.tags if tag == "td" and "cell" in (attributes.get("class") or "")
    ]
    assert len(cells) == 4
    assert all(cell["title"] for cell in cells)
    assert document.text.count("failed here") == 2  # in the legend, and in the cell

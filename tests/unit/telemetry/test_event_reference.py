"""The reference of all events."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.events import EVENT, Event, EventKind
from ascend_serve.telemetry.event_reference import event_classes, reference

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


def test_page_is_in_step_with_the_classes() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: ascend-serve report --reference > docs/events.md"


@pytest.mark.parametrize("event", event_classes(), ids=lambda event: event.__name__)
def test_every_field_says_what_it_means(event: type[Event]) -> None:
    (line,) = (
        line for line in reference().splitlines() if line.startswith(f"| `{event.model_fields['kind'].default}`")
    )
    own = event.model_fields.keys() - Event.model_fields.keys()
    assert [name for name in own if f"`{name}`:" not in line] == []


def test_every_kind_is_one_class() -> None:
    kinds = [event.model_fields["kind"].default for event in event_classes()]
    assert sorted(kinds) == sorted(EventKind)
    assert EVENT.validate_python({"kind": "ready", "time": 1.0}).kind is EventKind.READY

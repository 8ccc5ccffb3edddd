"""Whoever watches a capture session gets on without an answer of its driver."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from ascend_serve.capture.client import DriverClient
from ascend_serve.replica import session_follower
from ascend_serve.replica.session_follower import SessionFollower
from ascend_serve.telemetry.event_log import EventLog


def test_a_driver_that_is_stopped_holds_up_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_follower, "_CATCH_UP_SECONDS", 0.01)
    handle = Mock()
    handle.events.remote.side_effect = lambda *_, **__: asyncio.Event().wait()
    monkeypatch.setattr(DriverClient, "find", lambda group: DriverClient(group, handle))
    log = EventLog()
    asyncio.run(SessionFollower("group", log).catch_up())
    assert log.events == ()

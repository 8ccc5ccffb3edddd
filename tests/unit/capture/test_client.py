"""Whoever watches a capture session gets on without an answer of its driver."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from ascend_serve.capture import client
from ascend_serve.capture.client import DriverClient


def test_a_driver_that_is_stopped_holds_up_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_GLANCE_SECONDS", 0.01)
    handle = Mock()
    handle.snapshot.remote.side_effect = lambda: asyncio.Event().wait()
    assert asyncio.run(DriverClient("group", handle).snapshot()) is None

"""What the drivers of a deployment know, as seen from the process that waits for its start-up."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray.exceptions import RayError

from ascend_serve.capture.driver import find_drivers

_ANSWER_SECONDS = 2.0


def session_snapshot(deployment: str) -> dict[str, Any]:
    """The snapshot of the first capture group of a deployment; empty while there is none."""
    for driver in find_drivers(deployment):
        with contextlib.suppress(RayError):
            snapshot: dict[str, Any] = ray.get(driver.snapshot.remote(), timeout=_ANSWER_SECONDS)
            return snapshot
    return {}

"""Engine cores that begin with vLLM imported: forked from a process that did so before.

In a Ray actor vLLM spawns its engine core (``_maybe_force_spawn``, 0.23.0 and 0.32.0), because a process with threads
must not be forked; the new process then imports for many seconds. Python's fork server runs nothing but imports, once
for all engine cores of a replica, and while the replica itself imports.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any
from unittest.mock import patch

PRELOADED = "ascend_serve.engine.preloaded"


def start_importing() -> None:
    """Start the process that engine cores are forked from; returns while it imports, in this process's environment."""
    multiprocessing.set_forkserver_preload([PRELOADED])
    forkserver.ensure_running()


@contextmanager
def forked_engine_core() -> Iterator[None]:
    """While it lasts, vLLM forks engine cores from that process (``CoreEngineProcManager``, 0.23.0 and 0.32.0)."""
    from vllm.v1.engine import utils

    with patch.object(utils, "get_mp_context", _Context):
        yield


class _Context(ForkServerContext):
    """Gives a process the environment of its parent, as spawning does; vLLM's configuration writes to it."""

    def Process(  # type: ignore[override]  # A class there, and named as there.
        self, *, target: Callable[..., None], name: str, kwargs: Mapping[str, Any]
    ) -> BaseProcess:
        return super().Process(target=_run, args=(dict(os.environ), target, dict(kwargs)), name=name)


def _run(environment: dict[str, str], target: Callable[..., None], arguments: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(**arguments)

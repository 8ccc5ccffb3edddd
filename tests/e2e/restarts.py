"""Restarts of scripted lengths: the gate and the supervisor of a replica, around an engine that only takes its time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Mount

from ascend_serve.config.schema import ServingConfig
from ascend_serve.events import Event
from ascend_serve.replica.gate import Gate
from ascend_serve.replica.supervisor import Supervisor
from ascend_serve.telemetry.metrics import ReplicaMetrics
from ascend_serve.telemetry.report import GraphReport
from tests.no_requests import NoRequests, NoTurns, stop_reading
from tests.patience import wait_until
from tests.ports import free_port
from tests.reports import REPORT


@dataclass(frozen=True)
class Restart:
    """One restart.

    Attributes:
        seconds: How long it takes.
        expected: How long the start before took.
    """

    seconds: float
    expected: float


class ScriptedEngine:
    """An engine that is lost when it is told to.

    Args:
        restart: What happens then.
    """

    is_occupied = False

    def __init__(self, restart: Restart) -> None:
        # What answers now and what starts it anew are one here.
        self.run = self
        self.llm = SimpleNamespace(
            errored=False,
            is_busy=False,
            beat=self.beat,
            stop_reading=stop_reading,
            open_requests=NoRequests(),
            turns=NoTurns(),
        )
        self.seconds = {"engine": restart.expected}
        self.events: list[Event] = []
        self.lost = asyncio.Event()
        self._restart = restart

    async def loss(self) -> str:
        await self.lost.wait()
        return "rank 1 is lost"

    async def beat(self, patience: float) -> None:
        return

    async def end(self) -> None:
        self.llm.errored = True

    async def restart(self) -> None:
        await asyncio.sleep(self._restart.seconds)
        self.lost.clear()
        self.llm.errored = False

    async def report(self) -> GraphReport:
        return REPORT


class Replicas:
    """One replica for each restart, on one server.

    Args:
        restarts: The restarts.
    """

    def __init__(self, restarts: Sequence[Restart]) -> None:
        self._restarts = restarts
        self._engines: list[ScriptedEngine] = []
        self.port = free_port()

    def url(self, number: int) -> str:
        """Of the replica with that restart."""
        return f"http://127.0.0.1:{self.port}/{number}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve while the context lasts."""
        server = uvicorn.Server(uvicorn.Config(self._application(), port=self.port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        assert wait_until(lambda: server.started, pause=0.05)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()

    def lose(self) -> None:
        """Lose all engines."""
        for engine in self._engines:
            self._loop.call_soon_threadsafe(engine.lost.set)

    def _application(self) -> Starlette:
        application = Starlette(lifespan=self._supervised)
        self._routes = application.routes
        return application

    @asynccontextmanager
    async def _supervised(self, application: Starlette) -> Any:
        self._loop = asyncio.get_running_loop()
        supervisors = []
        will = SimpleNamespace(leave=lambda reason, report: None)
        for number, restart in enumerate(self._restarts):
            engine = ScriptedEngine(restart)
            metrics = ReplicaMetrics(CollectorRegistry())
            supervisors.append(Supervisor(engine, ServingConfig(), metrics, will))  # type: ignore[arg-type]
            self._engines.append(engine)
            self._routes.append(Mount(f"/{number}", Gate(_answering(), supervisors[-1])))
        yield
        for supervisor in supervisors:
            supervisor.stop()


def _answering() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, Any]:
        message = {"role": "assistant", "content": "Hi"}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "demo",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 8, "total_tokens": 9},
        }

    @app.post("/v1/messages")
    async def messages() -> dict[str, Any]:
        return {
            "id": "1",
            "type": "message",
            "role": "assistant",
            "model": "demo",
            "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 8},
        }

    return app

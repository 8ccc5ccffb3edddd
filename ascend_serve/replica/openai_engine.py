"""The engine of one replica with the OpenAI application around it; the application outlives an engine that is lost."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray.util.placement_group import PlacementGroup

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.graph.modes import Replan
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.engine_launcher import EngineLauncher, engine_arguments
from ascend_serve.replica.engine_run import EngineRun
from ascend_serve.replica.warm_up import warm_up
from ascend_serve.telemetry.report import Event, GraphReport, build_report

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ascend_serve.api.http_metrics import HttpMetrics
    from ascend_serve.engine.async_llm import ServedLLM

logger = logging.getLogger(__name__)


class OpenAIEngine:
    """An engine with its application. `OpenAIEngine.start` makes one that is ready to answer.

    Args:
        plan: What was decided about the deployment.
        launcher: Starts the engine anew.
        run: The engine.
        app: vLLM's OpenAI application, which gets ``GET /graph/report`` and ``GET /graph/histogram``.
        seconds: Durations of the phases of the start-up so far.
        replan: When capture sizes follow the load.

    Attributes:
        run: The engine that answers now.
        app: The application.
        http_metrics: What counts requests of clients; the application by itself counts none.
        seconds: Durations of the phases of the start-up.
        events: What happened to the engine while it served, for the report.
    """

    def __init__(
        self,
        plan: DeploymentPlan,
        launcher: EngineLauncher,
        run: EngineRun,
        app: FastAPI,
        *,
        seconds: dict[str, float],
        replan: Replan,
    ) -> None:
        from ascend_serve.api.http_metrics import HttpMetrics

        self.run = run
        self.app = app
        self.http_metrics: HttpMetrics = HttpMetrics(app)
        self.seconds = seconds
        self.events: list[Event] = []
        self._plan = plan
        self._launcher = launcher
        self._replan = replan
        app.add_api_route("/graph/report", self.report, response_model=GraphReport)
        app.add_api_route("/graph/histogram", self.histogram)

    @classmethod
    async def start(
        cls,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        group: str,
        *,
        placement_group: PlacementGroup | None = None,
        seconds: dict[str, float] | None = None,
    ) -> OpenAIEngine:
        """Load the model on all ranks, capture, and warm up until the first request is as fast as the second.

        Args:
            config: What to serve.
            plan: What was decided about it.
            group: Name of the capture group; unique per start.
            placement_group: Where the ranks go; vLLM makes a placement group when not given.
            seconds: Durations of what came before.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        seconds = dict(seconds or {})
        with _timed(seconds, "imports"):
            args = await asyncio.to_thread(engine_arguments, config, plan)
        launcher = EngineLauncher(group, args, plan, placement_group, config.graph.replan_saving)
        with _timed(seconds, "engine"):
            run = await launcher.start()
        with _timed(seconds, "application"):
            app = await _application(run.llm, args)
            engine = cls(plan, launcher, run, app, seconds=seconds, replan=config.graph.replan)
        await engine._begin_to_serve()
        return engine

    async def restart(self) -> None:
        """Bring up a fresh engine behind the same application; the end of the one before comes first.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        with _timed(self.seconds, "engine"):
            self.run = await self._launcher.start_again()
        with _timed(self.seconds, "application"):
            await _attach(self.app, self.run.llm, self._launcher.args)
        await self._begin_to_serve()

    async def report(self) -> GraphReport:
        """What was asked for, what holds, and why they differ."""
        return build_report(
            await self._launcher.snapshot(),
            requested_runtime=self._plan.requested_runtime,
            requested_mode=self._plan.requested_mode,
            planned=self._plan.adjustments,
            options=self._plan.options(),
            seconds=self.seconds,
            profiler_dir=self.run.llm.vllm_config.profiler_config.torch_profiler_dir,
            history=self.events,
        )

    async def histogram(self) -> dict[int, int]:
        """What ``GET /graph/histogram`` answers."""
        return await self.run.histogram()

    def shutdown(self) -> None:
        """End the engine core and its workers."""
        self.run.shutdown()

    async def _begin_to_serve(self) -> None:
        await self._launcher.snapshot()
        with _timed(self.seconds, "warm_up"):
            await warm_up(self.run.llm, self.app)
        self.run.llm.count_clients()
        if self._replan is Replan.IDLE:
            await self._follow_load()

    async def _follow_load(self) -> None:
        """Let capture sizes follow the load where any are captured."""
        report = await self.report()
        if RUNTIMES[report.runtime].captures and report.capture_sizes:
            self.run.follow_load(report.capture_sizes)
        else:
            logger.warning("graph.replan has no effect: the group runs %s, which captures nothing", report.runtime)


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[phase] = time.monotonic() - start


async def _application(llm: ServedLLM, args: argparse.Namespace) -> FastAPI:
    from ascend_serve.api.openai_app import openai_app

    return await openai_app(llm, args)


async def _attach(app: FastAPI, llm: ServedLLM, args: argparse.Namespace) -> None:
    from ascend_serve.api.openai_app import attach

    await attach(app, llm, args)

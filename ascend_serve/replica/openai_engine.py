"""The engine of one replica with the OpenAI application around it; the application outlives an engine that is lost."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ray.util.placement_group import PlacementGroup
from starlette.responses import PlainTextResponse

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.events import PhaseEnded, Ready, Started, StartFailed
from ascend_serve.graph.modes import Replan
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.engine_launcher import EngineLauncher, begin_imports, engine_arguments
from ascend_serve.replica.engine_run import EngineRun
from ascend_serve.replica.last_will import LastWill
from ascend_serve.replica.software import installed_versions
from ascend_serve.replica.warm_up import use_application, warm_up
from ascend_serve.telemetry.event_log import EventLog, as_lines
from ascend_serve.telemetry.report import GraphReport
from ascend_serve.telemetry.step_meter import StepMeter

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ascend_serve.api.http_metrics import HttpMetrics
    from ascend_serve.engine.async_llm import ServedLLM

logger = logging.getLogger(__name__)


class OpenAIEngine:
    """An engine with its application. `OpenAIEngine.start` makes one that is ready to answer.

    Args:
        launcher: Starts the engine anew.
        run: The engine.
        app: vLLM's OpenAI application, which gets ``GET /graph/report``, ``/graph/histogram`` and ``/graph/events``.
        events: What happened so far.
        replan: When capture sizes follow the load.

    Attributes:
        run: The engine that answers now.
        app: The application.
        http_metrics: What counts requests of clients; the application by itself counts none.
        events: What happened.
        meter: What steps replayed.
        copied_ranks: Ranks of a replacement that copied their weights from the memory of their host.
    """

    def __init__(
        self,
        launcher: EngineLauncher,
        run: EngineRun,
        app: FastAPI,
        *,
        events: EventLog,
        replan: Replan,
    ) -> None:
        from ascend_serve.api.http_metrics import HttpMetrics

        self.run = run
        self.app = app
        self.http_metrics: HttpMetrics = HttpMetrics(app)
        self.events = events
        self.meter = StepMeter()
        self.copied_ranks = 0
        self._launcher = launcher
        self._replan = replan
        app.add_api_route("/graph/report", self.report, response_model=GraphReport)
        app.add_api_route("/graph/histogram", self.histogram)
        app.add_api_route("/graph/events", self.event_lines, response_class=PlainTextResponse)

    @classmethod
    async def start(
        cls,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        group: str,
        *,
        placement_group: PlacementGroup | None = None,
        seconds: dict[str, float] | None = None,
        holds_weights: bool = False,
    ) -> OpenAIEngine:
        """Load the model on all ranks, capture, and warm up until the first request is as fast as the second.

        Args:
            config: What to serve.
            plan: What was decided about it.
            group: Name of the capture group; unique per start.
            placement_group: Where the ranks go; vLLM makes a placement group when not given.
            seconds: Durations of what came before.
            holds_weights: Whether ranks hold their weights in the memory of their host, for spares.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        events = EventLog.kept(config.model.name)
        events.append(_started(config, plan, group))
        for phase, passed in (seconds or {}).items():
            events.append(_ended(phase, passed))
        try:
            return await cls._brought_up(config, plan, group, placement_group, events, holds_weights=holds_weights)
        except Exception as error:
            report = events.story.report(events.events)
            told = await asyncio.to_thread(LastWill(config).of_error, error, report)
            events.append(StartFailed(time=time.time(), text=told.problem, advice=told.remedy))
            if told is error:
                raise
            raise told from error

    @classmethod
    async def _brought_up(
        cls,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        group: str,
        placement_group: PlacementGroup | None,
        events: EventLog,
        *,
        holds_weights: bool,
    ) -> OpenAIEngine:
        # Without a placement group there are no spares.
        holds_weights = holds_weights and placement_group is not None
        with _timed(events, "imports"):
            spares = await begin_imports(group, placement_group)
            args = await asyncio.to_thread(engine_arguments, config, plan, holds_weights=holds_weights)
        saving = config.graph.replan_saving
        launcher = EngineLauncher(group, args, plan, placement_group, spares, replan_saving=saving, events=events)
        with _timed(events, "engine"):
            run = await launcher.start()
        with _timed(events, "application"):
            app = await _application(run.llm, args)
            engine = cls(launcher, run, app, events=events, replan=config.graph.replan)
        await engine._begin_to_serve()
        events.append(Ready(time=time.time()))
        return engine

    def coming(self, client: str) -> AbstractContextManager[None]:
        """While the context lasts a request of ``client`` is answered."""
        return self.run.llm.turns.arrivals.coming(client)

    @property
    def seconds(self) -> Mapping[str, float]:
        """Durations of the phases of the start-up."""
        return self.events.story.seconds

    def note_total(self, seconds: float) -> None:
        """Take note of how long the whole start took, since the user asked for it."""
        self.events.append(_ended("total", seconds))

    async def restart(self) -> None:
        """Bring up a fresh engine behind the same application; the end of the one before comes first.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        with _timed(self.events, "engine"):
            self.run = await self._launcher.start_again()
            self.meter.begin_again()
        self.copied_ranks = sum(weights.from_host for weights in await self._launcher.rank_weights())
        await self._launcher.catch_up()
        with _timed(self.events, "warm_up"):
            await self._warm_up()
        await self._follow_load()

    async def keep_spares(self) -> None:
        """Have a spare worker process for each rank, until cancelled."""
        await self._launcher.keep_spares()

    @property
    def spares(self) -> int:
        """Spare worker processes that there are."""
        return self._launcher.spares.number

    @property
    def held_bytes(self) -> int:
        """Bytes of weights that they hold."""
        return self._launcher.spares.held_bytes

    async def report(self) -> GraphReport:
        """What was asked for, what holds, and why they differ."""
        await self._launcher.catch_up()
        folder = self.run.llm.vllm_config.profiler_config.torch_profiler_dir
        return self.events.story.report(self.events.events, folder)

    async def event_lines(self) -> str:
        """What ``GET /graph/events`` answers: the events that are kept, one JSON object a line."""
        return as_lines(self.events.events)

    async def histogram(self) -> dict[int, int]:
        """What ``GET /graph/histogram`` answers."""
        decode, _ = await self.run.steps()
        return decode

    async def count_steps(self) -> None:
        """Have the meter know all steps by now, as steps of the plan that holds."""
        self.meter.take(*await self.run.steps(), self.events.story.group.plan)

    def shutdown(self) -> None:
        """End the engine core, its workers and their spares."""
        self.run.shutdown()
        self._launcher.spares.end()

    async def _begin_to_serve(self) -> None:
        await self._launcher.catch_up()
        with _timed(self.events, "warm_up"):
            await self._warm_up()
            await use_application(self.app, is_pooling=self.run.llm.is_pooling)
            # The application answers with an error of its own.
            if self.run.llm.errored:
                raise await self._launcher.death(None)
        self.run.llm.expect_clients()
        await self._follow_load()

    async def _warm_up(self) -> None:
        try:
            await warm_up(self.run.llm)
        except Exception as error:
            if not self.run.llm.errored:
                raise
            raise await self._launcher.death(error) from error

    async def _follow_load(self) -> None:
        """Let capture sizes follow the load, if they shall, where any are captured."""
        if self._replan is Replan.OFF:
            return
        report = await self.report()
        if RUNTIMES[report.runtime].captures and report.capture_sizes:
            self.run.follow_load(report.capture_sizes, self.count_steps)
        else:
            logger.warning("graph.replan has no effect: the group runs %s, which captures nothing", report.runtime)


@contextmanager
def _timed(events: EventLog, phase: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    events.append(_ended(phase, time.monotonic() - start))


def _ended(phase: str, seconds: float) -> PhaseEnded:
    return PhaseEnded(time=time.time(), phase=phase, seconds=seconds)


def _started(config: AscendServeConfig, plan: DeploymentPlan, group: str) -> Started:
    return Started(
        time=time.time(),
        name=config.model.name,
        group=group,
        requested_runtime=plan.requested_runtime,
        requested_mode=plan.requested_mode,
        planned=plan.adjustments,
        options=plan.options(),
        multiple_of=plan.capture.multiple_of,
        largest_batch=plan.capture.largest_batch,
        versions=installed_versions(),
    )


async def _application(llm: ServedLLM, args: argparse.Namespace) -> FastAPI:
    from ascend_serve.api.openai_app import openai_app

    return await openai_app(llm, args)

"""The engine of one replica: vLLM's ``AsyncLLM`` on our executor, with the OpenAI application around it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from ray.util.placement_group import PlacementGroup

from ascend_serve.capture.client import DriverClient
from ascend_serve.capture.outcome import Outcome
from ascend_serve.capture.plan_store import default_directory
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.config.instance_id import InstanceId
from ascend_serve.config.passthrough import check_argument_names, merge
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.engine.prefork import forked_engine_core, start_importing
from ascend_serve.engine.settings import SECTION
from ascend_serve.errors import AscendServeError, CaptureError, EngineError
from ascend_serve.graph.modes import Replan, RuntimeName
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.process_environment import prepare_engine_process
from ascend_serve.replica.replanner import Replanner
from ascend_serve.replica.root_cause import OwnLog, start_error
from ascend_serve.replica.vllm_import import explained
from ascend_serve.telemetry.report import Event, GraphReport, build_report

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ascend_serve.api.http_metrics import HttpMetrics
    from ascend_serve.engine.async_llm import ServedLLM

logger = logging.getLogger(__name__)

_DRIVER_POLL_SECONDS = 0.2
_WARM_UP_SECONDS = 300.0
_RESERVE_SECONDS = 60.0
_END_SECONDS = 2.0
_TELL_SECONDS = 1.0
_WARM_UP_TOKENS = 4

_SAMPLERS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.8},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 20},
    {"temperature": 0.8, "top_p": 0.9, "top_k": 20, "logprobs": 1},
    {"temperature": 0.8, "repetition_penalty": 1.1, "presence_penalty": 0.1, "min_p": 0.05},
)

_PROMPTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "warm up"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "warm up"}]},
}
"""Ways into the application. A model without a chat template refuses the second one, which is fine here."""


class OpenAIEngine:
    """One engine that is ready to answer, with its application. Made by `OpenAIEngine.start`.

    Attributes:
        llm: vLLM's engine.
        app: vLLM's OpenAI application, with ``GET /graph/report``.
        http_metrics: What counts requests of clients; the application by itself counts none.
        seconds: Durations of the phases of the start-up.
        events: What happened to the engine while it served, for the report.
    """

    llm: ServedLLM
    app: FastAPI
    http_metrics: HttpMetrics
    _args: argparse.Namespace
    _replanner: Replanner

    def __init__(
        self,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        group: str,
        placement_group: PlacementGroup | None,
        seconds: dict[str, float],
    ) -> None:
        self._config = config
        self._plan = plan
        self._name = self._group = group
        self._placement_group = placement_group
        self._restarts = 0
        self.seconds = seconds
        self.events: list[Event] = []
        self._snapshot: Snapshot | None = None
        self._replanning: asyncio.Task[None] | None = None

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
        engine = cls(config, plan, group, placement_group, dict(seconds or {}))
        with engine._timed("imports"):
            engine._args = await asyncio.to_thread(_arguments, config, plan)
        with engine._timed("engine"):
            engine.llm = await engine._start_llm(group)
        with engine._timed("application"):
            engine.app, engine.http_metrics = await _application(engine.llm, engine._args)
            engine.app.add_api_route("/graph/report", engine.report, response_model=GraphReport)
            engine.app.add_api_route("/graph/histogram", engine.histogram)
        await engine._begin_to_serve()
        return engine

    async def restart(self) -> None:
        """Bring up a fresh engine core with fresh workers behind the same application; `end` comes before.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        self._restarts += 1
        await self._wait_for_npus()
        self._group = f"{self._name}-{self._restarts}"
        incarnation = 1 if self._snapshot is None else self._snapshot.incarnation + 1
        with self._timed("engine"):
            self.llm = await self._start_llm(str(InstanceId(self._group, incarnation=incarnation)))
        with self._timed("application"):
            await _attach(self.app, self.llm, self._args)
        await self._begin_to_serve()

    async def _begin_to_serve(self) -> None:
        await self._take_snapshot()
        self._replanner = Replanner(self.llm, self._plan, self._config.graph.replan_saving)
        with self._timed("warm_up"):
            await _within(_WARM_UP_SECONDS, _warm_up(self.llm, self.app), "The engine stalled in its warm-up")
        self.llm.count_clients()
        if self._config.graph.replan is Replan.IDLE:
            await self._start_replanning()

    async def _wait_for_npus(self) -> None:
        """Wait until Ray holds the NPUs again: where a node was lost, it looks for others."""
        group = self._placement_group
        if group is not None and not await asyncio.to_thread(PlacementGroup.wait, group, _RESERVE_SECONDS):
            raise EngineError(
                f"The cluster had no NPUs left for this replica within {_RESERVE_SECONDS:g} s",
                "`ray status` shows what is missing; add a node.",
            )

    async def report(self) -> GraphReport:
        """What was asked for, what holds, and why they differ."""
        await self._take_snapshot()
        return build_report(
            self._snapshot,
            requested_runtime=self._plan.requested_runtime,
            requested_mode=self._plan.requested_mode,
            planned=self._plan.adjustments,
            options=self._plan.options(),
            seconds=self.seconds,
            profiler_dir=self.llm.vllm_config.profiler_config.torch_profiler_dir,
            history=self.events,
        )

    async def histogram(self) -> dict[int, int]:
        """What ``GET /graph/histogram`` answers."""
        return await self._replanner.histogram()

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self.llm.output_processor.has_unfinished_requests()

    @property
    def is_occupied(self) -> bool:
        """Whether the ranks capture other graphs or write traces just now, and answer nothing else."""
        return self._replanner.is_capturing or self.llm.is_profiling

    async def loss(self) -> str:
        """Wait until a worker process is lost, and tell which; empty when nobody can."""
        driver = DriverClient.find(self._group)
        return "" if driver is None else await driver.loss()

    async def standstill(self) -> str:
        """Where ranks stand still, as far as they can tell; empty when nobody can."""
        driver = DriverClient.find(self._group)
        return "" if driver is None else await driver.standstill()

    async def beat(self, patience: float) -> None:
        """Wait until every rank has come to the end of its steps.

        Args:
            patience: Seconds without another heartbeat after which a rank tells where it stands.

        Raises:
            EngineDeadError: The engine is dead.
        """
        await self.llm.collective_rpc("heartbeat", args=(patience,))

    async def decode(self) -> None:
        """Wait until all ranks have decoded one token, which vLLM's metrics do not count.

        Raises:
            EngineDeadError: The engine is dead.
        """
        from vllm import SamplingParams

        for rank in range(self._config.parallel.data_parallel_size):
            await self.llm.ask(SamplingParams(max_tokens=1, temperature=0.0), data_parallel_rank=rank)

    async def end(self) -> None:
        """End the engine core and its workers, and every request with an error; the application stays."""
        if self._replanning is not None:
            self._replanning.cancel()
        from ascend_serve.engine.in_flight import fail_requests

        fail_requests(self.llm)
        await asyncio.to_thread(self.llm.shutdown, _END_SECONDS)
        # Those that came in meanwhile.
        fail_requests(self.llm)

    def shutdown(self) -> None:
        """End the engine core and its workers."""
        if self._replanning is not None:
            self._replanning.cancel()
        self.llm.shutdown()

    async def _start_replanning(self) -> None:
        """Let capture sizes follow the load where there are any: Xlite and eager capture nothing."""
        report = await self.report()
        if report.runtime == RuntimeName.ACLGRAPH and report.capture_sizes:
            self._replanning = asyncio.create_task(self._replanner.watch(report.capture_sizes))
        else:
            logger.warning("graph.replan has no effect: the group runs %s, which captures nothing", report.runtime)

    async def _start_llm(self, instance_id: str) -> ServedLLM:
        log = OwnLog()
        abort = asyncio.create_task(_abort(self._group))
        try:
            return await asyncio.to_thread(_build_llm, self._args, instance_id, self._placement_group)
        except AscendServeError:
            raise
        except Exception as error:
            # What the driver told last may still be on its way.
            await asyncio.wait([abort], timeout=_TELL_SECONDS)
            raise _failure(error, abort.result() if abort.done() else None, log) from error
        finally:
            abort.cancel()

    async def _take_snapshot(self) -> None:
        driver = DriverClient.find(self._group)
        self._snapshot = (None if driver is None else await driver.snapshot()) or self._snapshot

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - start


async def _abort(group: str) -> Outcome | None:
    """Wait until the driver of ``group`` aborts the session, and tell why; ``None`` when it is gone without a word."""
    while (driver := DriverClient.find(group)) is None:
        await asyncio.sleep(_DRIVER_POLL_SECONDS)
    return await driver.abort()


def _failure(error: Exception, abort: Outcome | None, log: OwnLog) -> AscendServeError:
    if abort is not None:
        return CaptureError(abort.reason, abort.remedy)
    return start_error(error, log.last_error(), log.paths)


def _arguments(config: AscendServeConfig, plan: DeploymentPlan) -> argparse.Namespace:
    # Before anything else is imported: the engine core's imports go on beside these.
    prepare_engine_process()
    start_importing()

    try:
        from ascend_serve.api.openai_app import server_arguments
    except Exception as error:
        raise explained(error) from error

    check_argument_names(config.vllm)
    here: dict[str, Any] = {"additional_config": {SECTION: {"plan_directory": str(default_directory())}}}
    if config.model.is_built_in:
        from ascend_serve.emulated.built_in_model import provide

        here["model"] = str(provide())
    return server_arguments(merge(plan.vllm_arguments, here))


def _build_llm(args: argparse.Namespace, instance_id: str, placement_group: PlacementGroup | None) -> ServedLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    from ascend_serve.engine.async_llm import ServedLLM
    from ascend_serve.engine.executor import LockstepRayExecutor

    # By its name alone vLLM does not know that the executor can do pipeline parallelism.
    args.distributed_executor_backend = LockstepRayExecutor
    vllm_config = AsyncEngineArgs.from_cli_args(args).create_engine_config(UsageContext.OPENAI_API_SERVER)
    _warn_of_scheduling(args.async_scheduling, vllm_config.scheduler_config.async_scheduling)
    vllm_config.instance_id = instance_id
    vllm_config.parallel_config.placement_group = placement_group
    with forked_engine_core():
        return ServedLLM.from_vllm_config(
            vllm_config=vllm_config,
            usage_context=UsageContext.OPENAI_API_SERVER,
            enable_log_requests=args.enable_log_requests,
            disable_log_stats=args.disable_log_stats,
        )


def _warn_of_scheduling(asked: bool | None, ahead: bool | None) -> None:
    """An emulated NPU turns it off without a word; elsewhere vLLM refuses what it cannot do."""
    if asked and not ahead:
        logger.warning(
            "vllm.async_scheduling: true has no effect: the ranks of emulated NPUs compute on every core of this host"
        )


async def _application(llm: ServedLLM, args: argparse.Namespace) -> tuple[FastAPI, HttpMetrics]:
    from ascend_serve.api.http_metrics import HttpMetrics
    from ascend_serve.api.openai_app import openai_app

    app = await openai_app(llm, args)
    return app, HttpMetrics(app)


async def _attach(app: FastAPI, llm: ServedLLM, args: argparse.Namespace) -> None:
    from ascend_serve.api.openai_app import attach

    await attach(app, llm, args)


async def _warm_up(llm: ServedLLM, app: FastAPI) -> None:
    """Run each kind of sampler once, as the first random one compiles for seconds, and each way into ``app``."""
    from vllm import SamplingParams

    for kind in _SAMPLERS:
        await llm.ask(SamplingParams(max_tokens=_WARM_UP_TOKENS, ignore_eos=True, **kind))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        for path, prompt in _PROMPTS.items():
            for stream in (False, True):
                body = {"max_tokens": _WARM_UP_TOKENS, "stream": stream, **prompt}
                response = await client.post(path, json=body, timeout=None)
                logger.debug("Warm-up of %s: %s", path, response.status_code)


async def _within(seconds: float, work: Awaitable[None], problem: str) -> None:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError as error:
        raise EngineError(f"{problem}: no end after {seconds:g} s", "The logs of the ranks are among Ray's.") from error

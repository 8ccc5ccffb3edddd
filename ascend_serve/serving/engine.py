"""The engine of one replica: vLLM's ``AsyncLLM`` on our executor, with the OpenAI application around it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from ascend_serve.capture.driver import driver_handle
from ascend_serve.capture.plan_store import default_directory
from ascend_serve.config.passthrough import check_argument_names, merge
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.engine.settings import SECTION
from ascend_serve.errors import AscendServeError, CaptureError, EngineError
from ascend_serve.graph.modes import Replan, RuntimeName
from ascend_serve.planning import DeploymentPlan
from ascend_serve.serving.environment import prepare_engine_process
from ascend_serve.serving.replan import Replanner
from ascend_serve.serving.root_cause import OwnLog
from ascend_serve.telemetry.report import GraphReport, build_report

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.util.placement_group import PlacementGroup
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger(__name__)

_SNAPSHOT_SECONDS = 0.2
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
        seconds: Durations of the phases of the start-up.
    """

    llm: AsyncLLM
    app: FastAPI
    _replanner: Replanner

    def __init__(self, plan: DeploymentPlan, group: str, seconds: dict[str, float]) -> None:
        self._plan = plan
        self._group = group
        self.seconds = seconds
        self._snapshot: dict[str, Any] = {}
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
        engine = cls(plan, group, dict(seconds or {}))
        with engine._timed("imports"):
            args = await asyncio.to_thread(_arguments, config, plan)
        with engine._timed("engine"):
            engine.llm = await engine._start_llm(args, placement_group)
        with engine._timed("application"):
            engine.app = await _application(engine.llm, args)
            engine.app.add_api_route("/graph/report", engine.report, response_model=GraphReport)
        engine._replanner = Replanner(engine.llm, plan, config.graph.replan_saving)
        engine.app.add_api_route("/graph/histogram", engine._replanner.histogram)
        with engine._timed("warm_up"):
            await _warm_up(engine.llm, engine.app, args)
        if config.graph.replan is Replan.IDLE:
            await engine._start_replanning()
        return engine

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
        )

    async def check_health(self) -> None:
        """Raise vLLM's ``EngineDeadError`` when the engine cannot answer any more."""
        await self.llm.check_health()

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

    async def _start_llm(self, args: argparse.Namespace, placement_group: PlacementGroup | None) -> AsyncLLM:
        log = OwnLog()
        watch = asyncio.create_task(self._watch_session())
        try:
            return await asyncio.to_thread(_build_llm, args, self._group, placement_group)
        except AscendServeError:
            raise
        except Exception as error:
            raise self._failure(error, log) from error
        finally:
            watch.cancel()

    def _failure(self, error: Exception, log: OwnLog) -> AscendServeError:
        if self._snapshot.get("outcome") == "abort":
            return CaptureError(self._snapshot.get("reason", str(error)), self._snapshot.get("remedy", ""))
        where = " and ".join(map(str, log.paths))
        return EngineError(
            f"The engine did not start: {log.last_error() or error}", f"The whole story is in {where}." if where else ""
        )

    async def _watch_session(self) -> None:
        """Keep the latest snapshot: when a capture session is aborted, its driver goes down with the engine core."""
        while True:
            await asyncio.sleep(_SNAPSHOT_SECONDS)
            await self._take_snapshot()

    async def _take_snapshot(self) -> None:
        try:
            driver = driver_handle(self._group)
            if driver is not None:
                self._snapshot = await driver.snapshot.remote()
        except Exception as error:
            logger.debug("No snapshot of capture group %s: %s", self._group, error)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - start


def _arguments(config: AscendServeConfig, plan: DeploymentPlan) -> argparse.Namespace:
    from ascend_serve.serving.openai_app import server_arguments

    prepare_engine_process(config)
    check_argument_names(config.vllm)
    remembering: dict[str, Any] = {"additional_config": {SECTION: {"plan_directory": str(default_directory())}}}
    return server_arguments(merge(plan.vllm_arguments, remembering))


def _build_llm(args: argparse.Namespace, group: str, placement_group: PlacementGroup | None) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    from ascend_serve.engine.executor import LockstepRayExecutor

    # By its name alone vLLM does not know that the executor can do pipeline parallelism.
    args.distributed_executor_backend = LockstepRayExecutor
    vllm_config = AsyncEngineArgs.from_cli_args(args).create_engine_config(UsageContext.OPENAI_API_SERVER)
    vllm_config.instance_id = group
    vllm_config.parallel_config.placement_group = placement_group
    return AsyncLLM.from_vllm_config(
        vllm_config=vllm_config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=args.enable_log_requests,
        disable_log_stats=args.disable_log_stats,
    )


async def _application(llm: AsyncLLM, args: argparse.Namespace) -> FastAPI:
    from ascend_serve.serving.openai_app import openai_app

    return await openai_app(llm, args)


async def _warm_up(llm: AsyncLLM, app: FastAPI, args: argparse.Namespace) -> None:
    """Run each kind of sampler once, as the first random one compiles for seconds, and each way into ``app``."""
    from vllm import SamplingParams, envs

    for number, kind in enumerate(_SAMPLERS):
        params = SamplingParams(max_tokens=_WARM_UP_TOKENS, ignore_eos=True, **kind)
        async for _ in llm.generate({"prompt_token_ids": [1, 2, 3]}, params, f"warm-up-{number}"):
            pass
    keys = args.api_key or [envs.VLLM_API_KEY]
    headers = {"Authorization": f"Bearer {keys[0]}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
        for path, prompt in _PROMPTS.items():
            for stream in (False, True):
                body = {"max_tokens": _WARM_UP_TOKENS, "stream": stream, **prompt}
                response = await client.post(path, json=body, timeout=None)
                logger.debug("Warm-up of %s: %s", path, response.status_code)

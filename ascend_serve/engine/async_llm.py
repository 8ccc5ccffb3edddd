"""vLLM's engine, as a replica needs it (0.23.0 and 0.32.0)."""

from __future__ import annotations

import argparse
import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakValueDictionary

from ray.util.placement_group import PlacementGroup
from vllm import PoolingParams, SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.outputs import RequestOutput
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.executor.abstract import Executor

from ascend_serve.engine.arrivals import CLIENT
from ascend_serve.engine.client_stats import ClientStats, leave_out
from ascend_serve.engine.executor import LockstepRayExecutor
from ascend_serve.engine.fair_share import FairShare
from ascend_serve.engine.open_requests import OpenRequest, OpenRequests
from ascend_serve.engine.prefork import forked_engine_core
from ascend_serve.engine.runner_choice import check_model_runner
from ascend_serve.engine.stream_outputs import STREAM, OutputReplay
from ascend_serve.engine.turns import Turns
from ascend_serve.engine.weight_source import RankWeights

logger = logging.getLogger(__name__)


class ServedLLM(AsyncLLM):
    """An engine whose front end outlives its engine core, and which tells its replica's requests from those of clients.

    Attributes:
        is_profiling: Whether the ranks start their profiler or write their traces, and answer nothing else.
        open_requests: Requests of clients under way, which may go on in another engine core.
        turns: Whose request goes to the engine core next.
    """

    is_profiling = False
    output_handler: asyncio.Task[None] | None
    engine_core: EngineCoreClient
    vllm_config: VllmConfig

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Random, or a client could name its requests so.
        self._own = f"ascend-serve-{uuid.uuid4().hex}-"
        self._own_requests = 0
        leave_out(self.output_processor, self._is_own)
        self.open_requests = OpenRequests(self.output_processor, self._is_own)
        self.turns = Turns(self.output_processor, _share(self.vllm_config), self._is_own)
        self._output_replay = OutputReplay(self)
        self._guard(self.engine_core)
        self._checking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    def launch(cls, args: argparse.Namespace, instance_id: str, placement_group: PlacementGroup | None) -> ServedLLM:
        """Start an engine on our executor; answers when all ranks have loaded the model and captured.

        Args:
            args: vLLM's arguments, as ``vllm serve`` parses them.
            instance_id: Names the capture group and its incarnation; see `InstanceId`.
            placement_group: Where the ranks go; vLLM makes a placement group when not given.
        """
        vllm_config = _engine_config(args, instance_id, placement_group)
        with forked_engine_core():
            return cls.from_vllm_config(
                vllm_config=vllm_config,
                usage_context=UsageContext.OPENAI_API_SERVER,
                enable_log_requests=args.enable_log_requests,
                disable_log_stats=args.disable_log_stats,
            )

    async def replace_core(
        self, args: argparse.Namespace, instance_id: str, placement_group: PlacementGroup | None
    ) -> None:
        """Start a fresh engine core with fresh ranks behind this front end; arguments as of `launch`."""
        core, vllm_config = await asyncio.to_thread(self._start_core, args, instance_id, placement_group)
        # The engine core's part of it is gone.
        await self.renderer.clear_mm_cache_async()
        self._guard(core)
        self.engine_core, self.vllm_config, self.output_handler = core, vllm_config, None
        self._run_output_handler()

    async def end_core(self, timeout: float) -> None:
        """End the engine core and its ranks, and read nothing more of what they sent.

        Args:
            timeout: Seconds after which processes are killed.
        """
        await self.stop_reading()
        await asyncio.to_thread(self.engine_core.shutdown, timeout)

    async def stop_reading(self) -> None:
        """Read nothing more from the engine core: what clients have got is what a fresh one goes on from."""
        if self.output_handler is not None:
            self.output_handler.cancel()
            await asyncio.wait((self.output_handler,))
        self.open_requests.fail_own()

    async def hand_over(self, request: OpenRequest) -> None:
        """Give a request to the engine core, to go on after what its client has got.

        Raises:
            EngineDeadError: The engine is dead.
        """
        if (count := self.open_requests.count(request)) is not None:
            request.tokens_then, request.is_on_engine = count, True
            await self.engine_core.add_request_async(self.open_requests.continued(request))

    @classmethod
    def from_vllm_config(cls, *args: Any, disable_log_stats: bool = False, **options: Any) -> ServedLLM:
        """Start an engine; its metrics begin with `expect_clients`."""
        loggers = None if disable_log_stats else [ClientStats]
        return super().from_vllm_config(*args, stat_loggers=loggers, disable_log_stats=disable_log_stats, **options)

    def expect_clients(self) -> None:
        """Let vLLM's metrics count from now on; what has asked until now, as the warm-up does, is no client."""
        self.turns.forget_idle()
        for logger in self.logger_manager.stat_loggers if self.logger_manager is not None else ():
            if isinstance(logger, ClientStats):
                logger.is_counting = True

    @property
    def worker_class(self) -> str:
        """Qualified name of the platform's worker."""
        return str(self.vllm_config.parallel_config.worker_cls)

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self.output_processor.has_unfinished_requests()

    async def beat(self, patience: float) -> None:
        """Wait until every rank has come to the end of its steps.

        Args:
            patience: Seconds without another heartbeat after which a rank tells where it stands.

        Raises:
            EngineDeadError: The engine is dead.
        """
        await self.collective_rpc("heartbeat", args=(patience,))

    async def rank_weights(self) -> tuple[RankWeights, ...]:
        """What each rank tells of its weights; of one engine, because only such a one has spares.

        Raises:
            EngineDeadError: The engine is dead.
        """
        (told,) = await self.collective_rpc("rank_weights")
        return tuple(map(RankWeights.model_validate, told))

    async def decode(self) -> None:
        """Wait until all ranks have decoded one token or pooled one prompt, which vLLM's metrics do not count.

        Raises:
            EngineDeadError: The engine is dead.
        """
        engines = range(self.vllm_config.parallel_config.data_parallel_size)
        if self.is_pooling:
            # vLLM lets nobody choose the engine for a prompt to pool; those that come at once it spreads.
            task = next(iter(await self.pooling_tasks()), None)
            await asyncio.gather(*(self.pool(task) for _ in engines if task is not None))
            return
        for rank in engines:
            await self.ask(1, temperature=0.0, data_parallel_rank=rank)

    @property
    def is_pooling(self) -> bool:
        """Whether the model pools prompts, to embeddings or scores, and generates nothing."""
        return bool(self.model_config.runner_type == "pooling")

    async def pooling_tasks(self) -> tuple[str, ...]:
        """What the model can pool prompts to, of what any prompt can be pooled to; a plugin's task is its own."""
        able = await self.get_supported_tasks()
        return tuple(task for task in ("embed", "classify", "token_embed", "token_classify") if task in able)

    async def ask(self, max_tokens: int, *, data_parallel_rank: int | None = None, **sampling: Any) -> float | None:
        """Answer a short request of our own, which no metric counts.

        Args:
            max_tokens: Tokens of the answer.
            data_parallel_rank: Whom to ask, where there are several.
            sampling: More of vLLM's ``SamplingParams``.

        Returns:
            Logarithm of the answer's probability; ``None`` unless ``logprobs`` asks for it, or if vLLM takes no such
            request, as ``min_p`` with speculative decoding: clients cannot make it either.
        """
        probability = None
        params = SamplingParams(max_tokens=max_tokens, **sampling)
        params.skip_reading_prefix_cache = True
        # vLLM 0.23.0 refuses with a ValueError.
        with self._own_request() as name, suppress(VLLMValidationError, ValueError):
            async for output in self.generate(_prompt(), params, name, data_parallel_rank=data_parallel_rank):
                probability = output.outputs[0].cumulative_logprob
        return probability

    async def pool(self, task: Any) -> float:
        """Pool a short prompt of our own, which no metric counts.

        Args:
            task: One of `pooling_tasks`.

        Returns:
            The sum of what came out: no number where one of them is none.
        """
        total = 0.0
        params = PoolingParams(task=task, skip_reading_prefix_cache=True)
        with self._own_request() as name:
            async for output in self.encode(_prompt(), params, name):
                total = float(output.outputs.data.sum())
        return total

    async def start_profile(self, *args: Any, **kwargs: Any) -> None:
        """Let all ranks begin to trace."""
        with self._profiling():
            await super().start_profile(*args, **kwargs)

    async def stop_profile(self) -> None:
        """Let all ranks write their traces."""
        with self._profiling():
            await super().stop_profile()

    def generate(self, prompt: Any, sampling_params: Any, *args: Any, **options: Any) -> AsyncGenerator[RequestOutput]:
        """Answer a request; of a stream that is kept, so that another replica could go on with it."""
        answers = super().generate(prompt, sampling_params, *args, **options)
        stream = STREAM.get()
        if stream is None:
            return answers
        stream.begin(sampling_params)
        return self._output_replay.answers(stream, answers)

    async def add_request(
        self, request_id: str, prompt: Any, params: Any, *args: Any, **options: Any
    ) -> RequestOutputCollector:
        """Add a request; a grammar, which takes long to check, is checked beside the event loop.

        vLLM checks what a renderer has made of a prompt on the event loop, and a prompt of tokens in the renderer's
        threads. Of each client one grammar is checked at a time.
        """
        if getattr(params, "structured_outputs", None) is None or not _is_tokens(prompt):
            return await super().add_request(request_id, prompt, params, *args, **options)
        tokens = {name: value for name, value in prompt.items() if name != "type"}
        async with self._checking.setdefault(CLIENT.get(), asyncio.Lock()):
            return await super().add_request(request_id, tokens, params, *args, **options)

    async def _add_request(self, request: Any, prompt: Any, parent_req: Any, index: int, queue: Any) -> None:
        """Refuse what cannot be sent to the engine core, a number of more than 64 bits, which vLLM calls its own fault.

        vLLM also forgets to take back what is refused here, and would believe for ever that it is under way.
        """
        try:
            await super()._add_request(request, prompt, parent_req, index, queue)
        except (OverflowError, VLLMValidationError) as error:
            await self.abort(queue.request_id, internal=True)
            if isinstance(error, VLLMValidationError):
                raise
            raise VLLMValidationError(f"A number of the request is out of range: {error}") from error

    def _guard(self, core: EngineCoreClient) -> None:
        """Put what a request passes on its way to an engine core before it, the last one first."""
        self.open_requests.hold_late(core)
        self.turns.guard(core)
        self._output_replay.guard(core)

    @contextmanager
    def _own_request(self) -> Iterator[str]:
        """While it lasts, requests of the name that it yields are ours."""
        self._own_requests += 1
        try:
            yield f"{self._own}{uuid.uuid4().hex}"
        finally:
            self._own_requests -= 1

    def _start_core(
        self, args: argparse.Namespace, instance_id: str, placement_group: PlacementGroup | None
    ) -> tuple[EngineCoreClient, VllmConfig]:
        vllm_config = _engine_config(args, instance_id, placement_group)
        with forked_engine_core():
            core = EngineCoreClient.make_async_mp_client(
                vllm_config=vllm_config,
                executor_class=Executor.get_class(vllm_config),
                log_stats=self.log_stats,
            )
        return core, vllm_config

    def _is_own(self, request_id: str) -> bool:
        return self._own_requests > 0 and request_id.startswith(self._own)

    @contextmanager
    def _profiling(self) -> Iterator[None]:
        self.is_profiling = True
        try:
            yield
        finally:
            self.is_profiling = False


def _is_tokens(prompt: Any) -> bool:
    return isinstance(prompt, dict) and prompt.get("type") == "token"


def _prompt() -> Any:
    """What our own requests ask; vLLM writes into it."""
    return {"prompt_token_ids": [1, 2, 3]}


def _share(vllm_config: VllmConfig) -> FairShare:
    """Two steps of prompts are enough to keep the engine core busy."""
    scheduler = vllm_config.scheduler_config
    engines = vllm_config.parallel_config.data_parallel_size
    return FairShare(engines * scheduler.max_num_seqs, engines * 2 * scheduler.max_num_batched_tokens)


def _engine_config(args: argparse.Namespace, instance_id: str, placement_group: PlacementGroup | None) -> VllmConfig:
    # By its name alone vLLM does not know that the executor can do pipeline parallelism.
    args.distributed_executor_backend = LockstepRayExecutor
    vllm_config = AsyncEngineArgs.from_cli_args(args).create_engine_config(UsageContext.OPENAI_API_SERVER)
    check_model_runner(vllm_config)
    _warn_of_scheduling(args.async_scheduling, vllm_config.scheduler_config.async_scheduling)
    vllm_config.instance_id = instance_id
    vllm_config.parallel_config.placement_group = placement_group
    return vllm_config


def _warn_of_scheduling(asked: bool | None, ahead: bool | None) -> None:
    """An emulated NPU turns it off without a word; elsewhere vLLM refuses what it cannot do."""
    if asked and not ahead:
        logger.warning(
            "vllm.async_scheduling: true has no effect: the ranks of emulated NPUs compute on every core of this host"
        )

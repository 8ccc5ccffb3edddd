"""vLLM's Ray executor with the capture session in it: lockstep start-up, fresh workers after a failure.

Built on ``RayExecutorV2`` (0.23.0 and 0.32.0), whose workers are Ray actors and whose control plane is vLLM's
``MessageQueue``. Serving is untouched; only start-up differs.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError
from vllm.v1.executor.ray_executor_v2 import RayExecutorV2, RayWorkerHandle
from vllm.v1.kv_cache_interface import KVCacheConfig

from ascend_serve.capture.client import DriverClient
from ascend_serve.capture.messages import Lost
from ascend_serve.capture.outcome import IncarnationOutcome, OutcomeKind
from ascend_serve.cluster.worker_death import WorkerDeath, death_of, death_of_actor, is_of
from ascend_serve.engine.continuation import continue_in_core
from ascend_serve.engine.first_prompts import queue_nothing_behind_first_prompts
from ascend_serve.engine.group_settings import capture_deadlines, prepare_fresh_workers, read_settings
from ascend_serve.engine.histogram import StepHistogram
from ascend_serve.engine.node_worker import local_world_size, use_node_workers
from ascend_serve.engine.plan_memory import PlanMemory
from ascend_serve.engine.queue_end import end_with_queue
from ascend_serve.engine.queue_memory import forget_names
from ascend_serve.engine.queue_wait import spare_cores
from ascend_serve.engine.runtimes.loading import ask_ranks, settle_runtime
from ascend_serve.engine.spare_worker import WORKER_RESOURCES
from ascend_serve.engine.weight_source import RankWeights
from ascend_serve.engine.worker_creation import spares_first
from ascend_serve.errors import CaptureError, EngineError
from ascend_serve.graph.plan import CapturePlan

logger = logging.getLogger(__name__)

EXECUTOR_CALLS = frozenset({"rank_weights", "recapture", "step_histogram"})
"""Methods of the executor that a client reaches through the engine's ``collective_rpc``."""

_MONITOR_POLL_SECONDS = 1.0


class LockstepRayExecutor(RayExecutorV2):
    """Runs one tensor-parallel worker per NPU and has them agree before, during and after graph capture."""

    failure_callback: Any

    def _init_executor(self) -> None:
        settings = read_settings(self.vllm_config)
        self._incarnation = settings.incarnation
        self._first_rank = self.parallel_config.data_parallel_index * self.parallel_config.world_size
        self._calls: list[tuple[Any, tuple[Any, ...], dict[str, Any] | None]] | None = []
        self._in_session = False
        request = self._request = settings.request
        self._histogram = StepHistogram(request.decode_query_len)
        offers = ask_ranks(self.vllm_config, self._first_rank)
        self._memory = PlanMemory.of(self.vllm_config, settings, request, offers)
        remembered = self._memory.recall()
        settle_runtime(self.vllm_config, request, offers, remembered)
        use_node_workers()
        forget_names()
        continue_in_core()
        queue_nothing_behind_first_prompts(self.vllm_config)
        self._driver = DriverClient.start(
            settings.group,
            settings.data_parallel_size * self.parallel_config.world_size,
            request,
            capture_deadlines(self.vllm_config, settings),
            remembered,
            incarnation=settings.incarnation,
        )
        with spares_first(settings.group):
            self._start_workers()

    @staticmethod
    def _get_actor_resource_kwargs() -> dict[str, Any]:
        return {"num_gpus": 0, "resources": WORKER_RESOURCES}

    def collective_rpc(
        self, method: Any, timeout: Any = None, args: Any = (), kwargs: Any = None, **options: Any
    ) -> Any:
        """Call ``method`` on all workers, or on this executor if it is one of ``EXECUTOR_CALLS``.

        Calls before the session are noted, to lead fresh workers there.
        """
        if method in EXECUTOR_CALLS:
            return [getattr(self, method)(*args)]
        if self._calls is not None and not self._in_session:
            self._calls.append((method, args, kwargs))
        return super().collective_rpc(method, timeout, args, kwargs, **options)

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        """Allocate the KV caches. vLLM 0.23.0 also warms up here; from 0.32.0 on that is a call of its own."""
        self.collective_rpc("initialize_from_config", args=(kv_cache_configs,))
        if not hasattr(RayExecutorV2, "compile_or_warm_up_model"):
            self.compile_or_warm_up_model()

    def compile_or_warm_up_model(self) -> None:
        """Run capture sessions until one is sealed, with fresh workers where the driver asks for them.

        Raises:
            CaptureError: Capture failed, and the ladder or ``graph.on_failure`` leaves no plan to go on with.
            EngineError: The capture driver is gone.
        """
        while True:
            outcome, results = self._run_session()
            if outcome.kind is OutcomeKind.SEALED:
                break
            if outcome.kind is OutcomeKind.ABORT:
                self.shutdown()
                raise CaptureError(outcome.reason, outcome.remedy)
            logger.warning("Replacing all workers: %s", outcome.reason)
            self._replace_workers(outcome.plan)
        self._calls = None
        self._plan: Any = outcome.plan
        self._memory.keep(outcome.plan)
        self._note_compilation_times(results)

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        """Run one step, and count it."""
        self._histogram.count(scheduler_output)
        return super().execute_model(scheduler_output, non_block)

    def step_histogram(self) -> tuple[dict[int, int], dict[int, int]]:
        """Steps so far by their tokens: uniform decodes, and all others."""
        return self._histogram.counts()

    def rank_weights(self) -> list[dict[str, Any]]:
        """What each rank tells of its weights, as fields of `RankWeights`: vLLM sends its front end plain values."""
        told: list[RankWeights] = self.collective_rpc("held_weights")
        return [
            weights.model_copy(update={"bundle": handle.bundle_id_idx}).model_dump()
            for handle, weights in zip(self.ray_worker_handles, told, strict=True)
        ]

    def recapture(self, capture_sizes: Sequence[int]) -> list[int]:
        """Capture other sizes in lockstep, between two steps; graphs that are wanted again stay.

        Args:
            capture_sizes: Sizes, ascending, in tokens.

        Returns:
            The sizes that hold now.

        Raises:
            EngineError: A rank failed, and the engine with it: fresh workers would have lost the requests' KV cache.
        """
        plan = self._plan
        request = replace(self._request, runtime=plan.runtime, mode=plan.mode, capture_sizes=tuple(capture_sizes))
        self._driver.reopen(request)
        outcome, _ = self._run_session(request.capture_sizes)
        if outcome.kind is not OutcomeKind.SEALED or outcome.plan is None:
            self._fail()
            raise EngineError(f"The graphs could not be captured again: {outcome.reason}", outcome.remedy)
        self._plan = outcome.plan
        return list(outcome.plan.capture_sizes)

    def _run_session(self, other_sizes: Sequence[int] = ()) -> tuple[IncarnationOutcome, list[Any]]:
        self._in_session = True
        pending = self.collective_rpc("run_capture_session", args=(tuple(other_sizes),), non_block=True)
        try:
            outcome = self._driver.outcome(self._incarnation)
        finally:
            self._in_session = False
        return outcome, pending.result() if outcome.kind is OutcomeKind.SEALED else []

    def _note_compilation_times(self, times: list[Any]) -> None:
        compilation = self.vllm_config.compilation_config
        compilation.compilation_time = max(time.language_model for time in times)
        compilation.encoder_compilation_time = max(time.encoder for time in times)

    def _replace_workers(self, plan: CapturePlan | None) -> None:
        """End all worker processes, start fresh ones for ``plan``, and lead them to where the session begins."""
        callback: Any = self.failure_callback
        calls = self._calls or []
        self.shutdown()
        self._incarnation += 1
        prepare_fresh_workers(self.vllm_config, self._incarnation, plan)
        self._start_workers()
        self.failure_callback = callback
        for method, args, kwargs in calls:
            super().collective_rpc(method, None, args, kwargs)

    def _start_workers(self) -> None:
        """Start the workers and load the model.

        Raises:
            EngineError: A worker process ended meanwhile.
        """
        try:
            super()._init_executor()
            ranks_here = self._ranks_here()
            for queue in self.response_mqs:
                spare_cores(queue, ranks_here)
                end_with_queue(queue)
        except RayActorError as error:
            loading = [handle for handle in self.ray_worker_handles if is_of(error, handle.actor)]
            if not loading:
                raise
            handle = loading[0]
            found = death_of_actor(error, handle.actor, handle.node_id)
            lost = self._lost(handle.rank, found, final=True)
            self._driver.tell_last(lost)
            raise EngineError(f"Rank {lost.rank} was lost: {lost.death.text}", lost.death.advice) from error

    def _ranks_here(self) -> int:
        here = ray.get_runtime_context().get_node_id()
        own = sum(handle.node_id == here for handle in self.ray_worker_handles)
        return local_world_size(own, self.parallel_config)

    def start_worker_monitor(self, inline: bool = False) -> None:
        """Watch the workers: in a session a death goes to the driver, later it ends the executor as in vLLM."""
        references = {handle.run_ref: handle for handle in self.ray_worker_handles}
        executor = weakref.ref(self)
        self._monitor_thread = threading.Thread(
            target=_monitor, args=(executor, references, self._incarnation), daemon=True, name="RayWorkerMonitor"
        )
        self._monitor_thread.start()

    def _on_worker_death(self, handle: RayWorkerHandle) -> None:
        final = not self._in_session
        found = death_of(handle.run_ref, handle.actor, handle.node_id)
        if self.shutting_down:
            return
        lost = self._lost(handle.rank, found, final=final)
        logger.error("Rank %d was lost: %s", lost.rank, lost.death.text)
        if final:
            self._driver.tell_last(lost)
            self._fail()
        else:
            self._driver.tell(lost)

    def _lost(self, rank: int, found: WorkerDeath, *, final: bool) -> Lost:
        return Lost(self._first_rank + rank, self._incarnation, found.death, found.node, final)

    def _fail(self) -> None:
        """End the executor for good, and let the engine know."""
        self.is_failed = True
        self.shutdown()
        callback, self.failure_callback = self.failure_callback, None
        if callback is not None:
            callback()


def _monitor(
    executor: weakref.ref[LockstepRayExecutor], references: dict[Any, RayWorkerHandle], incarnation: int
) -> None:
    # A blocking ray.wait() would crash when Ray is torn down under it, so it polls.
    while ray.is_initialized():
        done, _ = ray.wait(list(references), num_returns=1, timeout=_MONITOR_POLL_SECONDS)
        watched = executor()
        if watched is None or watched.shutting_down or watched._incarnation != incarnation:
            return
        if done:
            watched._on_worker_death(references[done[0]])
            return

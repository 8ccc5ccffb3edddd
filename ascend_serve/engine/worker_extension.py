"""The worker's part of the capture session, mixed into the platform's worker by ``worker_extension_cls``.

vLLM mixes the class into ``NPUWorker``, ``XliteWorker`` or the emulated worker and refuses names that the worker
already has (``WorkerWrapperBase.init_worker``, 0.23.0 and 0.32.0), so its few public methods have names of ours.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import ray

from ascend_serve.capture.client import DriverClient
from ascend_serve.capture.messages import CaptureResult, Lost, Phase
from ascend_serve.capture.participant import Participant
from ascend_serve.engine.canary import Canary
from ascend_serve.engine.capture_garbage import uncollected_capture
from ascend_serve.engine.compilation import watch_static_kernels
from ascend_serve.engine.group_settings import GroupSettings, capture_deadlines, read_settings
from ascend_serve.engine.held_weights import HOLDER
from ascend_serve.engine.npu import free_memory, instruction_set, scripted_fault, streams_left
from ascend_serve.engine.proposal import group_rank, make_proposal
from ascend_serve.engine.runner_choice import seam_of
from ascend_serve.engine.runtimes.factory import apply_plan
from ascend_serve.engine.standstill import StandstillWatch
from ascend_serve.engine.step_failure import tell_of_failed_steps
from ascend_serve.engine.weight_source import RankWeights
from ascend_serve.errors import CaptureError, chain_of
from ascend_serve.graph.death import Death
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.plan import Proposal

if TYPE_CHECKING:
    from vllm.v1.worker.worker_base import WorkerBase

logger = logging.getLogger(__name__)

REFUSED_AT_BEGIN = "capturebegin"
"""Part of ``c10_npu::acl::AclmdlRICaptureBegin``, which torch_npu 2.10 names when nothing was recorded yet."""


class CaptureWorkerExtension:
    """Adds the capture session to the platform's worker."""

    def run_capture_session(self, other_sizes: Sequence[int] = ()) -> Any:
        """Agree with the other ranks on a plan, walk it with them, and seal it.

        Args:
            other_sizes: Sizes to capture, in tokens, by a worker that has been through a session already.

        Returns:
            What the worker's own ``compile_or_warm_up_model`` returned, or ``None`` when the session ended without a
            seal: then the driver has told the executor what comes next.
        """
        worker = cast("WorkerBase", self)
        if not other_sizes:
            seam_of(worker.model_runner).continue_requests()
            tell_of_failed_steps(worker, _loser(worker))
        return WorkerSession(worker).run(other_sizes)

    def heartbeat(self, patience: float) -> None:
        """Answer, which this rank can only do when it has come to the end of all steps before.

        Args:
            patience: Seconds without another one after which this rank tells the driver where it stands.
        """
        _standstill_watch(cast("WorkerBase", self)).beat(patience)

    def held_weights(self) -> RankWeights:
        """What this rank tells of its weights, but for its place."""
        return HOLDER.told()


class WorkerSession:
    """One rank's walk through the session of its capture group.

    Args:
        worker: The platform's worker, with the model loaded and the KV cache allocated.
    """

    def __init__(self, worker: WorkerBase) -> None:
        self._worker = worker
        self._settings = read_settings(worker.vllm_config)
        self._seam = seam_of(worker.model_runner)
        self._canary = Canary(self._seam.fixed_batch)
        self._participant = _participant(worker, self._settings)
        self._phase = Phase.JOIN
        self._watch = _standstill_watch(worker)
        self._patience = capture_deadlines(worker.vllm_config, self._settings).capture / 2

    def run(self, other_sizes: Sequence[int]) -> Any:
        """Run the session to its end; errors outside of captures are told to the driver, never raised past it."""
        try:
            self._agree(other_sizes)
            with uncollected_capture(again=bool(other_sizes)), watch_static_kernels(self._participant.tell_compiling):
                return self._walk(is_warm=bool(other_sizes))
        except Exception as error:
            logger.exception("Rank %d failed in phase %s", self._participant.rank, self._phase.value)
            if not self._participant.has_ended:
                self._participant.fail(self._phase, error)
            return None

    def _agree(self, other_sizes: Sequence[int]) -> None:
        self._enter(Phase.JOIN)
        self._participant.join()
        if not self._participant.has_ended:
            self._seam.check()
            self._enter(Phase.PROPOSE)
            proposal = self._proposal()
            sizes = tuple(other_sizes) or proposal.capture_sizes
            self._participant.propose(replace(proposal, capture_sizes=sizes))

    def _proposal(self) -> Proposal:
        return make_proposal(self._worker, self._seam, self._settings)

    def _walk(self, *, is_warm: bool) -> Any:
        if self._participant.has_ended:
            return None
        self._canary.take()
        self._apply_plan()
        with self._seam.hooked(self._capture):
            result = None
            if is_warm:
                self._seam.capture_model()
            else:
                result = self._worker.compile_or_warm_up_model()
            while not self._participant.has_ended and not self._sealed():
                self._apply_plan()
                self._seam.capture_model()
        return None if self._participant.has_ended else result

    def _apply_plan(self) -> None:
        apply_plan(self._seam, *self._participant.take_change())

    def _sealed(self) -> bool:
        """Seal what was captured; not yet, when the plan changed under vLLM's loop."""
        if self._participant.has_new_plan:
            return False
        self._enter(Phase.SEAL)
        return self._participant.seal(self._seam.held(), self._canary.holds())

    def _capture(self, key: GraphKey, original: Callable[[], None]) -> None:
        """Stands in for vLLM's own capture of one graph: meet, capture, meet."""
        if key in self._seam.held() or not self._participant.wants(key) or not self._participant.arrive(key):
            return
        self._phase = Phase.CAPTURE
        self._watch.beat(self._patience)
        result = self._try_capture(key, original)
        self._watch.beat(math.inf)
        if not self._participant.leave(key, result):
            self._seam.release([key])

    def _try_capture(self, key: GraphKey, original: Callable[[], None]) -> CaptureResult:
        started, streams_before, memory_before = time.perf_counter(), streams_left(), free_memory()
        with self._seam.watch_capture() as watch:
            try:
                original()
            except Exception as error:
                logger.warning("Capture of %s failed on rank %d: %s", key.label, self._participant.rank, error)
                failure = _failure(error, watch.capturing, time.perf_counter() - started)
                if watch.capturing and not failure.recorded:
                    self._seam.change_pool()
                return failure
        return _success(time.perf_counter() - started, streams_before, memory_before)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        scripted_fault(phase)


def _participant(worker: WorkerBase, settings: GroupSettings) -> Participant:
    driver = DriverClient.find(settings.group)
    if driver is None:
        raise CaptureError(f"There is no capture driver for the group {settings.group}")
    return Participant(
        driver,
        group_rank(worker),
        settings.incarnation,
        ray.util.get_node_ip_address(),
        os.getpid(),
        instruction_set=instruction_set(),
    )


@cache
def _standstill_watch(worker: WorkerBase) -> StandstillWatch:
    """The watch over the main loop of the worker of this process, whose first call starts it."""
    return StandstillWatch(_teller(worker))


def _teller(worker: WorkerBase) -> Callable[[str], None]:
    """Tells the driver of the group where this rank stands."""
    driver, rank = DriverClient.find(read_settings(worker.vllm_config).group), group_rank(worker)

    def tell(place: str) -> None:
        if driver is not None:
            driver.note_place(rank, place)

    return tell


def _loser(worker: WorkerBase) -> Callable[[Death], None]:
    """Tells the driver of the group that this rank, and the engine with it, is lost."""
    settings = read_settings(worker.vllm_config)
    driver, rank = DriverClient.find(settings.group), group_rank(worker)

    def tell(death: Death) -> None:
        if driver is not None:
            driver.tell_last(Lost(rank, settings.incarnation, death, final=True))

    return tell


def _success(seconds: float, streams_before: int | None, memory_before: int | None) -> CaptureResult:
    streams, memory = streams_left(), free_memory()
    return CaptureResult(
        ok=True,
        seconds=seconds,
        streams_used=None if streams is None or streams_before is None else streams_before - streams,
        streams_left=streams,
        memory=None if memory is None or memory_before is None else memory_before - memory,
    )


def _failure(error: Exception, capturing: bool, seconds: float) -> CaptureResult:
    # torch_npu ends a capture that failed as any other, and that end fails too, for no reason of its own.
    chain = chain_of(error)
    text = "\n".join(map(str, chain))
    return CaptureResult(
        ok=False,
        seconds=seconds,
        phase=Phase.CAPTURE if capturing else Phase.WARMUP,
        error_type=type(chain[0]).__name__,
        error_text=text,
        streams_left=streams_left(),
        recorded=capturing and REFUSED_AT_BEGIN not in text.lower(),
    )

"""Starting the engines of a replica, one after the other: vLLM's engine on our executor, with its errors explained."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.util.placement_group import PlacementGroup

from ascend_serve.capture.client import DriverClient
from ascend_serve.capture.outcome import IncarnationOutcome
from ascend_serve.capture.plan_store import default_directory
from ascend_serve.config.instance_id import InstanceId
from ascend_serve.config.passthrough import merge
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.translate import SECTION
from ascend_serve.config.vllm_arguments import check_argument_names
from ascend_serve.engine.prefork import start_importing
from ascend_serve.errors import AscendServeError, CaptureError, EngineError
from ascend_serve.node.imports import import_at_once
from ascend_serve.node.model_download import provide_model
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.engine_run import EngineRun
from ascend_serve.replica.process_environment import prepare_engine_process
from ascend_serve.replica.replanner import Replanner
from ascend_serve.replica.root_cause import OwnLog, start_error
from ascend_serve.replica.session_follower import SessionFollower
from ascend_serve.replica.spares import Spares
from ascend_serve.replica.vllm_import import explained
from ascend_serve.telemetry.event_log import EventLog

if TYPE_CHECKING:
    from ascend_serve.engine.async_llm import ServedLLM
    from ascend_serve.engine.weight_source import RankWeights

logger = logging.getLogger(__name__)

_DRIVER_POLL_SECONDS = 0.2
_RESERVE_SECONDS = 60.0
_TELL_SECONDS = 1.0


def engine_arguments(
    config: AscendServeConfig, plan: DeploymentPlan, *, holds_weights: bool = False
) -> argparse.Namespace:
    """vLLM's arguments as ``vllm serve`` parses them; takes seconds, because it imports vLLM.

    Args:
        config: What to serve.
        plan: What was decided about it.
        holds_weights: Whether ranks hold their weights in the memory of their host.

    Raises:
        EngineError: vLLM cannot be imported.
        ConfigError: The section ``vllm`` has an argument that vLLM does not know.
        ModelError: The model is not on this node, and cannot be downloaded.
    """
    try:
        import_at_once("ascend_serve.api.openai_app")
        from ascend_serve.api.openai_app import server_arguments
    except Exception as error:
        raise explained(error) from error

    check_argument_names(config.vllm)
    section = {"plan_directory": str(default_directory()), "holds_weights": holds_weights}
    here: dict[str, Any] = {"additional_config": {SECTION: section}}
    if config.model.is_built_in:
        from ascend_serve.emulated.built_in_model import provide

        here["model"] = str(provide())
    else:
        provide_model(config.model.path)
    return server_arguments(merge(plan.vllm_arguments, here))


async def begin_imports(group: str, placement_group: PlacementGroup | None) -> Spares:
    """Start the processes of an engine that import vLLM, before this one does: the engine core's, and the ranks'.

    Args:
        group: Name of the capture group of the engine.
        placement_group: Where the ranks go.
    """
    prepare_engine_process()
    start_importing()
    spares = Spares(placement_group)
    await spares.begin(group)
    return spares


class EngineLauncher:
    """Starts engines with the same arguments, each with a capture group of its own.

    Args:
        name: Name of the capture group of the first; unique per replica. The others add a number.
        args: vLLM's arguments.
        plan: What was decided about the deployment.
        placement_group: Where the ranks go; vLLM makes a placement group when not given.
        spares: Worker processes there, of which those of the first engine have begun.
        replan_saving: Padding waste that other capture sizes must save.
        events: Where the events of capture sessions go.

    Attributes:
        args: vLLM's arguments.
        spares: Worker processes that wait for the next engine.
    """

    def __init__(
        self,
        name: str,
        args: argparse.Namespace,
        plan: DeploymentPlan,
        placement_group: PlacementGroup | None,
        spares: Spares,
        *,
        replan_saving: float,
        events: EventLog,
    ) -> None:
        self._name = self._group = name
        self.args = args
        self._plan = plan
        self._placement_group = placement_group
        self.spares = spares
        self._replan_saving = replan_saving
        self._restarts = 0
        self._incarnation = 0
        self._events = events
        self._follower = SessionFollower(name, events)
        self._following: asyncio.Task[None] | None = None
        self._log = OwnLog()
        self._llm: ServedLLM | None = None

    async def start(self) -> EngineRun:
        """Load the model on all ranks and capture.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        return await self._run(self._group)

    async def start_again(self) -> EngineRun:
        """Start a fresh engine core with fresh workers, after the one before has ended.

        Raises:
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason.
        """
        self.spares.hand_over()
        await self._wait_for_npus()
        self._group = self._next_group
        self._restarts += 1
        # A start that failed may have been too short for its driver to be asked.
        self._incarnation = max(self._incarnation, self._events.story.group.incarnation) + 1
        if self._llm is not None:
            await self.spares.complete(self._group, self._llm.worker_class)
        return await self._run(str(InstanceId(self._group, incarnation=self._incarnation)))

    async def keep_spares(self) -> None:
        """Have a spare for each rank of the engine that would take the place of this one, until cancelled."""
        if self._llm is not None:
            await self.spares.keep(self._next_group, self._llm.worker_class, await self.rank_weights())

    async def rank_weights(self) -> Sequence[RankWeights]:
        """What ranks tell of their weights; nothing where the engine has no spares to tell it, or does not answer."""
        if self._llm is None or self._placement_group is None:
            return ()
        try:
            return await self._llm.rank_weights()
        except Exception as error:
            logger.warning("The engine does not tell where its weights are: %s", error)
            return ()

    @property
    def _next_group(self) -> str:
        return f"{self._name}-{self._restarts + 1}"

    async def catch_up(self) -> None:
        """Have all events of the latest capture group in the log, as far as its driver tells them at once."""
        await self._follower.catch_up()

    async def death(self, error: Exception | None) -> EngineError:
        """What ended the engine that was started last, after its session: what a rank told, else what its log says.

        Args:
            error: What vLLM raised, if anything.
        """
        told = await _told(asyncio.create_task(_abort(self._group)))
        if told is None:
            return self._failure(error or EngineError("the engine core ended"))
        return EngineError(f"The engine died in its warm-up: {told.reason}", told.remedy)

    def _failure(self, error: Exception) -> EngineError:
        return start_error(error, self._log.last_error(), self._log.paths)

    async def _wait_for_npus(self) -> None:
        """Wait until Ray holds the NPUs again: where a node was lost, it looks for others."""
        group = self._placement_group
        if group is not None and not await asyncio.to_thread(PlacementGroup.wait, group, _RESERVE_SECONDS):
            raise EngineError(
                f"The cluster had no NPUs left for this replica within {_RESERVE_SECONDS:g} s",
                "`ray status` shows what is missing; add a node.",
            )

    async def _launch(self, instance_id: str) -> ServedLLM:
        """Launch an engine, or a fresh engine core behind the front end of the one before."""
        if self._llm is None:
            return await asyncio.to_thread(_build_llm, self.args, instance_id, self._placement_group)
        await self._llm.replace_core(self.args, instance_id, self._placement_group)
        return self._llm

    async def _run(self, instance_id: str) -> EngineRun:
        self._log = OwnLog()
        self._follow()
        abort = asyncio.create_task(_abort(self._group))
        try:
            llm = self._llm = await self._launch(instance_id)
        except AscendServeError:
            raise
        except Exception as error:
            told = await _told(abort)
            raise (self._failure(error) if told is None else CaptureError(told.reason, told.remedy)) from error
        finally:
            abort.cancel()
        replanner = Replanner(llm, self._plan, self._replan_saving, self._events)
        return EngineRun(llm, DriverClient.find(self._group), replanner)

    def _follow(self) -> None:
        """Follow the session of the group that is about to start, and no other one."""
        if self._following is not None:
            self._following.cancel()
        self._follower = SessionFollower(self._group, self._events)
        self._following = asyncio.create_task(self._follower.follow())


async def _told(abort: asyncio.Task[IncarnationOutcome | None]) -> IncarnationOutcome | None:
    """What the driver told last, which may still be on its way."""
    await asyncio.wait([abort], timeout=_TELL_SECONDS)
    if abort.done():
        return abort.result()
    abort.cancel()
    return None


async def _abort(group: str) -> IncarnationOutcome | None:
    """Wait until the driver of ``group`` aborts the session, and tell why; ``None`` when it is gone without a word."""
    while (driver := DriverClient.find(group)) is None:
        await asyncio.sleep(_DRIVER_POLL_SECONDS)
    return await driver.abort()


def _build_llm(args: argparse.Namespace, instance_id: str, placement_group: PlacementGroup | None) -> ServedLLM:
    from ascend_serve.engine.async_llm import ServedLLM

    return ServedLLM.launch(args, instance_id, placement_group)

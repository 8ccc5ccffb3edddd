"""The line to a capture driver: every call that anybody makes of it, with its patience and its errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Self

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.driver import CaptureDriver
from ascend_serve.capture.messages import Compiling, Lost, Question, Verdict
from ascend_serve.capture.outcome import IncarnationOutcome
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.errors import EngineError
from ascend_serve.events import Event
from ascend_serve.graph.plan import CapturePlan, GraphRequest

_NAMESPACE = "ascend_serve"
_PREFIX = "capture-driver-"
_LAST_WORD_SECONDS = 2.0
"""How long an executor that ends waits until the driver, which ends with it, knows why."""
_GLANCE_SECONDS = 2.0
_STANDSTILL_SECONDS = 1.0


class DriverClient:
    """Asks the driver of one capture group, a Ray actor.

    Ranks and executors wait for its answers as long as it takes, since it knows the deadlines; whoever serves or
    watches gets on without an answer. Where one is needed and the driver is gone, that is an `EngineError`.

    Args:
        group: Name of the capture group.
        handle: The actor.

    Attributes:
        group: Name of the capture group.
        handle: The actor.
    """

    def __init__(self, group: str, handle: ActorHandle) -> None:
        self.group = group
        self.handle = handle

    @classmethod
    def start(
        cls,
        group: str,
        ranks: int,
        request: GraphRequest,
        deadlines: Deadlines,
        remembered: CapturePlan | None = None,
        *,
        incarnation: int = 0,
    ) -> Self:
        """Start the driver on this node, if no engine of the group has done so yet; see `CaptureDriver`.

        Elsewhere it could be lost with a node of ranks alone, and would tell nobody of them.
        """
        options = {"name": f"{_PREFIX}{group}", "namespace": _NAMESPACE, "get_if_exists": True}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(CaptureDriver).options(
            **options, num_cpus=0, max_concurrency=4 * ranks + 64, scheduling_strategy=here
        )
        return cls(group, actor.remote(ranks, request, deadlines, remembered, incarnation=incarnation))

    @classmethod
    def find(cls, group: str) -> Self | None:
        """The client of a group's driver; ``None`` before an engine has started it."""
        try:
            return cls(group, ray.get_actor(f"{_PREFIX}{group}", namespace=_NAMESPACE))
        except ValueError:
            return None

    def ask(self, question: Question) -> Verdict:
        """Hand in a rank's question and wait for its verdict.

        Raises:
            EngineError: The driver is gone.
        """
        verdict: Verdict = self._get(self.handle.ask.remote(question))
        return verdict

    def tell(self, message: Lost | Compiling) -> None:
        """Tell of a lost rank, or of one that compiles, without waiting."""
        self.handle.tell.remote(message)

    def tell_last(self, lost: Lost) -> None:
        """Tell of a lost rank, and wait until the driver knows."""
        ray.wait([self.handle.tell.remote(lost)], timeout=_LAST_WORD_SECONDS)

    def note_place(self, rank: int, place: str) -> None:
        """Tell where a rank stands still, without waiting; ``place`` is empty when it goes on."""
        self.handle.note_place.remote(rank, place)

    def outcome(self, incarnation: int) -> IncarnationOutcome:
        """Wait until the session of ``incarnation`` has ended, and tell how.

        Raises:
            EngineError: The driver is gone.
        """
        outcome: IncarnationOutcome = self._get(self.handle.outcome.remote(incarnation))
        return outcome

    def reopen(self, request: GraphRequest) -> None:
        """Begin another session of the same processes, for other sizes.

        Raises:
            CaptureError: The session before has not been sealed.
            EngineError: The driver is gone.
        """
        self._get(self.handle.reopen.remote(request))

    async def abort(self) -> IncarnationOutcome | None:
        """Wait until the session is aborted, and tell why; ``None`` when the driver is gone without a word."""
        try:
            outcome: IncarnationOutcome = await self.handle.abort.remote()
        except RayActorError:
            return None
        return outcome

    async def loss(self) -> str:
        """Wait until the sealed group has lost a rank, and tell which; empty when the driver is gone too."""
        try:
            return str(await self.handle.loss.remote())
        except RayActorError:
            return ""

    async def standstill(self) -> str:
        """Which ranks stand still, and where; empty when the driver cannot tell."""
        try:
            return str(await asyncio.wait_for(self.handle.standstill.remote(), _STANDSTILL_SECONDS))
        except (TimeoutError, RayActorError):
            return ""

    async def events(self, after: int, *, wait: bool = True) -> tuple[int, list[Event]]:
        """What happened in the group after so many events; see `CaptureDriver.events`.

        Raises:
            RayActorError: The driver is gone.
        """
        told: tuple[int, list[Event]] = await self.handle.events.remote(after, wait=wait)
        return told

    def glance(self) -> Snapshot | None:
        """What the driver knows; ``None`` when it is gone, or does not answer at once."""
        with contextlib.suppress(RayError):
            snapshot: Snapshot = ray.get(self.handle.snapshot.remote(), timeout=_GLANCE_SECONDS)
            return snapshot
        return None

    def _get(self, reference: Any) -> Any:
        try:
            return ray.get(reference)
        except RayActorError as error:
            raise EngineError(
                f"The capture driver of {self.group} is gone: {error}",
                "Its node may be gone: see `ray status`, then start again.",
            ) from error


def glance(deployment: str) -> Snapshot | None:
    """The snapshot of a deployment's first capture group; ``None`` while there is none."""
    return next((snapshot for _, snapshot in glances(deployment)), None)


def glances(deployment: str = "") -> Iterator[tuple[str, Snapshot]]:
    """The snapshots of all capture groups of a deployment, or of the whole cluster, each with the group's name."""
    for client in _clients(deployment):
        snapshot = client.glance()
        if snapshot is not None:
            yield client.group, snapshot


def _clients(deployment: str) -> Iterator[DriverClient]:
    """The drivers of all capture groups of a deployment, whose names begin with the deployment's."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        group = actor["name"].removeprefix(_PREFIX)
        is_driver = actor["namespace"] == _NAMESPACE and actor["name"].startswith(f"{_PREFIX}{deployment}")
        if is_driver and (client := DriverClient.find(group)) is not None:
            yield client

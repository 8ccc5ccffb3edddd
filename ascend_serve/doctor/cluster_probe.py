"""Looking at every node of a Ray cluster at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ascend_serve.node import hccn
from ascend_serve.node.environment import NOSET_VISIBLE_DEVICES
from ascend_serve.node.facts import NodeFacts, ProbeRequest
from ascend_serve.node.probe import probe_node


class ClockOffset(BaseModel):
    """A node's clock minus this machine's, in seconds, give or take ``error``."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    error: float


class Ping(BaseModel):
    """Packets from one NPU to another node's; ``loss`` in percent, ``None`` when the tool could not say."""

    model_config = ConfigDict(frozen=True)

    device: int
    address: str
    loss: float | None


class NodeProbe(BaseModel):
    """What is known about one node.

    Attributes:
        node_id: Ray's id; empty outside a cluster.
        address: Its address.
        resources: What it offers to Ray; ``None`` outside a cluster.
        facts: What the probe learned, or ``None`` when the node did not answer.
        problem: Why it did not answer.
        clock: Its clock against this machine's, or ``None`` outside a cluster.
        pings: Packets from its NPUs to the next node's.
    """

    model_config = ConfigDict(frozen=True)

    node_id: str = ""
    address: str
    resources: dict[str, float] | None = None
    facts: NodeFacts | None = None
    problem: str = ""
    clock: ClockOffset | None = None
    pings: tuple[Ping, ...] = ()


class _Probe:
    """The actor on one node."""

    def facts(self, request: ProbeRequest, node_id: str) -> dict[str, Any]:
        return probe_node(request, node_id).model_dump()

    def clock(self) -> float:
        return time.time()

    def ping(self, targets: Sequence[tuple[int, str]], timeout: float) -> list[tuple[int, str, float | None]]:
        return [(device, address, hccn.ping(device, address, timeout)) for device, address in targets]


def probe_cluster(request: ProbeRequest, timeout: float) -> list[NodeProbe]:
    """Look at all living nodes of the connected Ray cluster in parallel.

    Args:
        request: What to look at.
        timeout: Seconds to wait for the nodes; one that does not answer in time is reported with a problem.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    actors = {node["NodeID"]: _start(node["NodeID"]) for node in nodes}
    try:
        answers = _collect({key: actor.facts.remote(request, key) for key, actor in actors.items()}, timeout)
        probes = [_probe_of(node, answers[node["NodeID"]]) for node in nodes]
        probes = [_with_clock(probe, actors[probe.node_id], timeout) for probe in probes]
        return _with_pings(probes, actors, request.tool_timeout)
    finally:
        for actor in actors.values():
            ray.kill(actor)


def _start(node_id: str) -> Any:
    options = {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        # Keeps Ray from emptying ASCEND_RT_VISIBLE_DEVICES for an actor that takes no NPU.
        "runtime_env": {"env_vars": {NOSET_VISIBLE_DEVICES: "1"}},
    }
    return ray.remote(_Probe).options(**options).remote()


def _collect(refs: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """The answer of each reference, or the exception that stands for it."""
    ready, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=timeout)
    return {
        key: _answer(ref) if ref in ready else TimeoutError(f"no answer within {timeout:g} s")
        for key, ref in refs.items()
    }


def _answer(ref: Any) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        return error


def _probe_of(node: Mapping[str, Any], answer: Any) -> NodeProbe:
    failed = isinstance(answer, Exception)
    return NodeProbe(
        node_id=node["NodeID"],
        address=node["NodeManagerAddress"],
        resources=node["Resources"],
        facts=None if failed else NodeFacts.model_validate(answer),
        problem=_last_line(answer) if failed else "",
    )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _with_clock(probe: NodeProbe, actor: Any, timeout: float) -> NodeProbe:
    """Compare clocks as NTP does: the node's against the middle of the round trip."""
    if probe.facts is None:
        return probe
    sent = time.time()
    theirs = _collect({"clock": actor.clock.remote()}, timeout)["clock"]
    received = time.time()
    if isinstance(theirs, Exception):
        return probe
    offset = ClockOffset(seconds=theirs - (sent + received) / 2, error=(received - sent) / 2)
    return probe.model_copy(update={"clock": offset})


def _with_pings(probes: list[NodeProbe], actors: Mapping[str, Any], tool_timeout: float) -> list[NodeProbe]:
    """Let each NPU ping the NPU of the same number on the next node, all nodes at once."""
    answered = [probe for probe in probes if probe.facts is not None]
    targets = {
        probe.node_id: ping_targets(probe, following)
        for probe, following in zip(answered, answered[1:] + answered[:1], strict=True)
        if len(answered) > 1
    }
    refs = {key: actors[key].ping.remote(pairs, tool_timeout) for key, pairs in targets.items() if pairs}
    if not refs:
        return probes
    answers = _collect(refs, tool_timeout * max(map(len, targets.values())))
    return [probe.model_copy(update={"pings": _pings(answers.get(probe.node_id))}) for probe in probes]


def ping_targets(probe: NodeProbe, following: NodeProbe) -> list[tuple[int, str]]:
    """Pairs of a device of ``probe``'s node and the address of the device with the same place on the next node."""
    if probe.facts is None or following.facts is None:
        return []
    pairs = zip(probe.facts.hccn.links, following.facts.hccn.links, strict=False)
    return [(ours.device, theirs.address) for ours, theirs in pairs if theirs.address]


def _pings(answer: Any) -> tuple[Ping, ...]:
    if answer is None or isinstance(answer, Exception):
        return ()
    return tuple(Ping(device=device, address=address, loss=loss) for device, address, loss in answer)

"""What one replica, one deployment and the whole cluster do now: what ``ascend-serve status`` shows."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry
from pydantic import BaseModel, ConfigDict

from ascend_serve.telemetry.report import GraphReport

_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_TOKENS = "vllm:generation_tokens"
"""vLLM's own metrics (0.23.0 and 0.32.0), by the names of their families."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReplicaLoad(_Part):
    """What a replica has to do, as vLLM's metrics count it.

    Attributes:
        running: Requests in the batch; ``None`` where vLLM counts nothing.
        waiting: Requests that wait for room in it.
        generated_tokens: Tokens of all answers so far.
    """

    running: int | None = None
    waiting: int | None = None
    generated_tokens: int | None = None


class ReplicaStatus(_Part):
    """One replica.

    Attributes:
        replica: Its id.
        state: ``serving``, ``restarting`` while its engine is replaced, or ``starting``.
        detail: How far a start is.
        node: Address of its node; empty when not known.
        pid: Its process; 0 when not known.
        since: When it began to answer, in seconds since the epoch; ``None`` before that.
        load: What it has to do.
        report: What holds on its ranks, without events; ``None`` before a replica can tell.
        event_file: The file of its events, on its node; empty where there is none.
    """

    replica: str
    state: str
    detail: str = ""
    node: str = ""
    pid: int = 0
    since: float | None = None
    load: ReplicaLoad = ReplicaLoad()
    report: GraphReport | None = None
    event_file: str = ""


class DeploymentStatus(_Part):
    """One deployment.

    Attributes:
        name: Name of the application, with that of the deployment behind a slash for the second of an application and
            further ones; of the capture group where it is no application of Ray Serve.
        state: What Ray Serve says of the application; ``OFFLINE`` where it is none.
        message: What Ray Serve says besides, without tracebacks; empty when all is well.
        replicas: Its replicas.
    """

    name: str
    state: str
    message: str = ""
    replicas: tuple[ReplicaStatus, ...] = ()


class ClusterStatus(_Part):
    """All deployments of a cluster. Fields are added, never renamed.

    Attributes:
        version: Of this form.
        deployments: By name.
    """

    version: int = 1
    deployments: tuple[DeploymentStatus, ...] = ()


def read_load(registry: CollectorRegistry = REGISTRY) -> ReplicaLoad:
    """What vLLM's metrics in this process say.

    Args:
        registry: Where they are collected.
    """
    sums: dict[str, int] = {}
    names = (_RUNNING, _WAITING, f"{_TOKENS}_total")
    for family in registry.restricted_registry(names).collect():
        for sample in family.samples:
            if sample.name in names:
                sums[sample.name] = sums.get(sample.name, 0) + int(sample.value)
    running, waiting, tokens = map(sums.get, names)
    return ReplicaLoad(running=running, waiting=waiting, generated_tokens=tokens)

"""Looking at a whole cluster and saying what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import ray
from pydantic import BaseModel, ConfigDict, computed_field

from ascend_serve.cluster.connect import connected_cluster
from ascend_serve.cluster.placement import counted
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.shipped import LAUNCH
from ascend_serve.doctor.cluster_checks import run_cluster_checks
from ascend_serve.doctor.cluster_probe import NodeProbe, probe_cluster
from ascend_serve.doctor.node_checks import HCCL_PORTS, CheckContext, run_node_checks
from ascend_serve.emulated import ENABLE_ENV_VAR
from ascend_serve.errors import ClusterError
from ascend_serve.node.facts import ProbeRequest
from ascend_serve.node.finding import Finding, Status, fail, ok, warn, worst
from ascend_serve.node.probe import probe_node
from ascend_serve.node.user_files import home

_NONE_RUNNING = "Could not find any running Ray instance"
"""What Ray 2.60 says of the address ``auto`` when no cluster runs on this machine."""


class CheckResult(BaseModel):
    """One line of the table: a check and what it found."""

    model_config = ConfigDict(frozen=True)

    check: str
    status: Status
    text: str
    fix: str = ""


class NodeDiagnosis(BaseModel):
    """The table of one node."""

    model_config = ConfigDict(frozen=True)

    node_id: str
    address: str
    hostname: str
    lines: tuple[CheckResult, ...]


class Diagnosis(BaseModel):
    """What the doctor says. Its JSON form is stable: fields are added, never renamed or removed.

    Attributes:
        version: Grows when the meaning of a field changes.
        cluster: Checks of the whole cluster.
        nodes: Checks node by node.
    """

    model_config = ConfigDict(frozen=True)

    version: int = 1
    cluster: tuple[CheckResult, ...]
    nodes: tuple[NodeDiagnosis, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> Status:
        """The most serious status of all lines."""
        return worst(line.status for lines in (self.cluster, *(node.lines for node in self.nodes)) for line in lines)


def diagnose(config: AscendServeConfig | None, timeout: float) -> Diagnosis:
    """Look at the Ray cluster of ``RAY_ADDRESS``, at one that runs on this machine, or at this machine alone.

    Args:
        config: What is to be served, for the checks of model, placement and ports; ``None`` leaves these out.
        timeout: Seconds to wait for the nodes.
    """
    request = probe_request(config)
    address = os.environ.get("RAY_ADDRESS") or "auto"
    said_mode = "RAY_AUTH_MODE" in os.environ
    try:
        with connected_cluster(address) as cluster:
            probes = probe_cluster(request, timeout)
            connection = [
                ("connection", ok(f"{cluster.address}, {counted(len(probes), 'node')}")),
                ("authentication", authentication(os.environ, home())),
            ]
    except ClusterError as error:
        probes = [_this_machine(request)]
        connection = [("connection", _no_cluster(error, said_mode))]
    return examine(probes, connection, config)


def probe_request(config: AscendServeConfig | None) -> ProbeRequest:
    """What to look at on each node for the sake of ``config``."""
    if config is None:
        return ProbeRequest(ports=HCCL_PORTS)
    path = None if config.model.is_built_in else os.path.abspath(config.model.path)
    return ProbeRequest(model_path=path, ports=(config.serving.port, *HCCL_PORTS))


def examine(
    probes: Sequence[NodeProbe], connection: Sequence[tuple[str, Finding]], config: AscendServeConfig | None
) -> Diagnosis:
    """Run all checks on what the probes brought.

    Args:
        probes: One per node.
        connection: Lines about the connection to the cluster, which come first.
        config: What is to be served, or ``None``.
    """
    context = CheckContext(
        config=config,
        ray_version=metadata.version("ray"),
        address=ray.util.get_node_ip_address(),
        multi_node=len(probes) > 1,
        emulated=_emulated(probes, config),
    )
    return Diagnosis(
        cluster=_lines([*connection, *run_cluster_checks(probes, config)]),
        nodes=tuple(_node_diagnosis(probe, context) for probe in probes),
    )


def authentication(environ: Mapping[str, str], home: Path) -> Finding:
    """How this process proves itself to Ray: by token, or not at all."""
    mode = environ.get("RAY_AUTH_MODE", "").lower()
    has_token = any(environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode == "token" or (not mode and (has_token or os.path.exists(home / ".ray" / "auth_token"))):
        return ok("token")
    return warn(
        "none: whoever reaches the cluster's ports runs code on it",
        "run `ray get-auth-token --generate`, copy ~/.ray/auth_token to all nodes, set RAY_AUTH_MODE=token everywhere",
    )


def _no_cluster(error: ClusterError, said_mode: bool) -> Finding:
    if _NONE_RUNNING in error.problem:
        return warn(
            "no Ray cluster runs here: only this machine is checked",
            f"start one ({LAUNCH}/head.sh), or set RAY_ADDRESS=<head>:6379 and RAY_AUTH_MODE=token",
        )
    # Ray 2.60 reads the mode when it is imported, so it has to be there before the command starts.
    hint = "" if said_mode else " Set RAY_AUTH_MODE=token if the cluster uses tokens."
    return fail(error.problem, error.remedy + hint)


def _this_machine(request: ProbeRequest) -> NodeProbe:
    facts = probe_node(request)
    return NodeProbe(address=facts.address, facts=facts)


def _emulated(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> bool:
    if config is not None:
        return config.emulated.npus > 0
    return any(probe.facts is not None and probe.facts.env.get(ENABLE_ENV_VAR) == "1" for probe in probes)


def _node_diagnosis(probe: NodeProbe, context: CheckContext) -> NodeDiagnosis:
    hostname = probe.facts.hostname if probe.facts else ""
    lines = _lines(run_node_checks(probe, context))
    return NodeDiagnosis(node_id=probe.node_id, address=probe.address, hostname=hostname, lines=lines)


def _lines(found: Sequence[tuple[str, Finding]]) -> tuple[CheckResult, ...]:
    return tuple(CheckResult(check=name, **finding.model_dump()) for name, finding in found)

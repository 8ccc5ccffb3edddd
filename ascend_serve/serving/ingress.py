"""What stands before the replicas: HAProxy, or Ray Serve's own proxy where HAProxy cannot run."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ascend_serve.api.stream_journal import SECRET_VARIABLE
from ascend_serve.cluster.local import LOOPBACK
from ascend_serve.config.schema import Ingress, LostRequests, ServingConfig, StreamsOutlive
from ascend_serve.node.ports import free_port
from ascend_serve.serving.haproxy import CERTIFICATE, COMMAND, HOST, KEY
from ascend_serve.serving.haproxy_config import FALLBACK_PROXY

logger = logging.getLogger(__name__)

ENABLED = "RAY_SERVE_ENABLE_HA_PROXY"
EVERYWHERE = frozenset({"0.0.0.0", "::"})

_ROUTER = "request_router_config"
_PROBE_SECONDS = 30.0
_SETTINGS = {
    # Replicas answer on for so long after HAProxy was told to leave them out: Serve's own 30 s would be added to every
    # stop and update. Serve tells HAProxy within 0.2 s and has a new one within a second; what comes later all the same
    # finds the port closed, and HAProxy asks another replica.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # A HAProxy that was replaced keeps its streams for so long; Serve's own 120 s would cut longer ones at each change.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",
    # Replicas count their requests themselves then, instead of one datagram from HAProxy to Python for each.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A client that neither reads nor sends for so long is cut; who waits for an answer is not, however long it takes.
    # Serve's own 3600 s leave a place to each that just stops reading.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    # A HAProxy that has ended is missed at the third look, and nobody is answered until then. Serve looks every 10 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # Another replica is asked where one goes before it has begun to answer, or has no engine just now. A request
    # changes nothing on a replica, so it may come twice.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response 503",
    # HAProxy asks again what fits here: 64 KiB are some 16,000 tokens of text. Serve's own 16 KiB are less than a long
    # conversation.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(2**16),
}
"""Serve's settings (2.60.0, ``constants.py``) that differ from its defaults; what the user's environment says wins."""

_CORES_PER_THREAD = 4
_MOST_THREADS = 4
"""Serve's default; the machine's cores are for ranks."""


@dataclass(frozen=True, slots=True)
class HAProxyHere:
    """Whether HAProxy can run on a node.

    Attributes:
        command: Path of the program that Serve starts as HAProxy.
        hindrance: Why it cannot; empty where it can.
    """

    command: str
    hindrance: str = ""


def start_options(serving: ServingConfig, *, local: bool) -> dict[str, Any]:
    """What ``serve.start`` is told, for the ingress that the configuration asks for or, with one line why, for another.

    Args:
        serving: What the configuration says.
        local: Whether the cluster is this machine's alone.
    """
    http = {**serving.http_options, "host": serving.host, "port": serving.port}
    proxy = {"http_options": http, **_controller({ENABLED: "0"})}
    if serving.ingress is Ingress.PROXY:
        return proxy
    nodes = [_haproxy_here()] if local else _ask_nodes()
    hindrance = _unreachable(serving.host, len(nodes)) or _hindrance(nodes)
    if hindrance:
        streams = "; streams end with their replica (serving.recovery.streams)" if _are_kept(serving) else ""
        logger.warning("Ray Serve's proxy answers instead of HAProxy (serving.ingress): %s%s", hindrance, streams)
        return proxy
    environment = haproxy_environment(serving, nodes[0].command, local=local)
    return {
        # Clients reach HAProxy where the environment says; replicas of this machine are for HAProxy alone.
        "http_options": {**http, "host": LOOPBACK} if local else http,
        **_controller(environment),
    }


def _controller(environment: Mapping[str, str]) -> dict[str, Any]:
    """What gives Serve's controller its environment; the nodes' own may say something else."""
    return {"controller_options": {"runtime_env": {"env_vars": dict(environment)}}}


def haproxy_environment(serving: ServingConfig, command: str, *, local: bool) -> dict[str, str]:
    """Variables for Serve's controller, which everything that it starts inherits.

    Args:
        serving: What the configuration says.
        command: Path of the program that Serve starts as HAProxy.
        local: Whether the cluster is this machine's alone.
    """
    threads = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // _CORES_PER_THREAD))
    settings = {**_SETTINGS, "RAY_SERVE_HAPROXY_NBTHREAD": str(threads)}
    if local:
        settings["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] = str(free_port(LOOPBACK))
    if _are_kept(serving):
        settings[SECRET_VARIABLE] = secrets.token_hex()
    chosen = {name: os.environ.get(name, value) for name, value in settings.items()}
    own = {ENABLED: "1", "RAY_SERVE_HAPROXY_BINARY_PATH": command}
    files = {CERTIFICATE: "ssl_certfile", KEY: "ssl_keyfile"}
    tls = {name: str(serving.http_options[key]) for name, key in files.items() if key in serving.http_options}
    return {**chosen, **own, **tls, **({HOST: serving.host} if local else {})}


def _are_kept(serving: ServingConfig) -> bool:
    recovery = serving.recovery
    return recovery.streams is StreamsOutlive.REPLICA and recovery.requests is LostRequests.CONTINUE


def running_ingress() -> Ingress:
    """What stands before the replicas on the cluster, where Serve runs."""
    names = [str(actor["name"]) for actor in ray.util.list_named_actors(all_namespaces=True)]
    return Ingress.HAPROXY if any(name.startswith(FALLBACK_PROXY) for name in names) else Ingress.PROXY


def warn_if_other(serving: ServingConfig) -> None:
    """Say that the ingress of a Serve that runs already is not the one that was asked for."""
    if "ingress" in serving.model_fields_set and (running := running_ingress()) is not serving.ingress:
        logger.warning(
            "serving.ingress=%s has no effect: Ray Serve runs on this cluster already, with %s. "
            "Its ingress is decided when it starts; `serve shutdown` ends it with all its applications",
            serving.ingress.value,
            running.value,
        )


def warn_of_router(serving: ServingConfig) -> None:
    """Say that the router which the configuration chooses is one that HAProxy does not ask."""
    if _ROUTER in serving.deployment and running_ingress() is Ingress.HAPROXY:
        logger.warning(
            "serving.deployment.%s has no effect: HAProxy asks the replica with the fewest connections, and no router "
            "of Ray Serve; serving.ingress=proxy does",
            _ROUTER,
        )


def _unreachable(host: str, nodes: int) -> str:
    if nodes == 1 or host in EVERYWHERE:
        return ""
    return (
        f"the cluster has {nodes} nodes, and with serving.host={host} HAProxy on one does not reach the replicas on "
        "another; serving.host=0.0.0.0 listens on all nodes"
    )


def _hindrance(nodes: Iterable[HAProxyHere]) -> str:
    found = next((node.hindrance for node in nodes if node.hindrance), "")
    places = {node.command for node in nodes}
    return found or (f"{COMMAND} is at different paths: {', '.join(sorted(places))}" if len(places) > 1 else "")


def _ask_nodes() -> list[HAProxyHere]:
    """Whether HAProxy can run on each node of the cluster."""
    asking = ray.remote(num_cpus=0, max_retries=0)(_haproxy_here)
    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in alive]
    try:
        return ray.get([asking.options(scheduling_strategy=place).remote() for place in places], timeout=_PROBE_SECONDS)
    except (RayError, TimeoutError) as error:
        return [HAProxyHere("", f"a node did not say whether it can run there: {str(error).splitlines()[0]}")]


def _haproxy_here() -> HAProxyHere:
    """Whether HAProxy can run on this node."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    command = shutil.which(COMMAND, path=places)
    if command is None:
        return HAProxyHere("", f"{COMMAND} is not installed in {sys.prefix}; install this package there")
    try:
        done = subprocess.run([command, "-v"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return HAProxyHere(command, str(error))
    said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return HAProxyHere(command, "" if done.returncode == 0 else said[-1])

"""HAProxy's configuration as the installed Ray Serve writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ray.serve._private import constants
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

CLIENT_SECONDS = "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"
NODE = "f" * 56
"""As long as the id of a node."""


def write_configuration(
    folder: Path,
    port: int,
    *servers: int,
    host: str = "127.0.0.1",
    fallback: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Let Serve write the configuration for one application.

    Args:
        folder: Serve's folder.
        port: Where clients reach HAProxy.
        servers: Ports of the application's replicas; the application is not there yet where it has none.
        host: Where clients reach HAProxy.
        fallback: Port of Serve's own proxy.
        settings: What Serve reads from its environment when it is imported.
    """
    place = folder / NODE
    options = HTTPOptions(host=host, port=port)
    config = HAProxyConfig(
        http_options=options,
        socket_path=str(place / "a"),
        server_state_base=str(place),
        server_state_file=str(place / "server-state"),
        is_head=True,
        retry_on=settings.get("RAY_SERVE_HAPROXY_RETRY_ON", constants.RAY_SERVE_HAPROXY_RETRY_ON),
        timeout_client_s=int(settings.get(CLIENT_SECONDS, constants.RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S)),
        bufsize=int(settings.get("RAY_SERVE_HAPROXY_TUNE_BUFSIZE", constants.RAY_SERVE_HAPROXY_TUNE_BUFSIZE)),
    )
    api = HAProxyApi(config, config_file_path=str(place / "haproxy.cfg"))
    if servers or fallback is not None:
        api.set_backend_configs({"http-demo": _backend(servers, fallback)})
    api._generate_config_file_internal()
    return place / "haproxy.cfg"


def _backend(servers: Sequence[int], fallback: int | None) -> BackendConfig:
    own = None if fallback is None else ServerConfig("SERVE_PROXY_ACTOR-fallback-node", "127.0.0.1", fallback)
    replicas = [ServerConfig(f"SERVE_REPLICA-demo-{port}", "127.0.0.1", port) for port in servers]
    return BackendConfig("http-demo", "/", servers=replicas, app_name="demo", fallback_server=own)

"""HAProxy's configuration as the installed Ray Serve writes it."""

from __future__ import annotations

from pathlib import Path

from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

NODE = "f" * 56
"""As long as the id of a node."""


def write_configuration(
    folder: Path, port: int, server: int | None = None, *, host: str = "127.0.0.1", fallback: int | None = None
) -> Path:
    """Let Serve write the configuration for one application.

    Args:
        folder: Serve's folder.
        port: Where clients reach HAProxy.
        server: Port of the application's one replica; the application is not there yet where it has none.
        host: Where clients reach HAProxy.
        fallback: Port of Serve's own proxy.
    """
    place = folder / NODE
    options = HTTPOptions(host=host, port=port)
    config = HAProxyConfig(
        http_options=options,
        socket_path=str(place / "a"),
        server_state_base=str(place),
        server_state_file=str(place / "server-state"),
        is_head=True,
    )
    api = HAProxyApi(config, config_file_path=str(place / "haproxy.cfg"))
    if server is not None:
        api.set_backend_configs({"http-demo": _backend(server, fallback)})
    api._generate_config_file_internal()
    return place / "haproxy.cfg"


def _backend(server: int, fallback: int | None) -> BackendConfig:
    own = None if fallback is None else ServerConfig("SERVE_PROXY_ACTOR-fallback-node", "127.0.0.1", fallback)
    replica = ServerConfig("SERVE_REPLICA-demo", "127.0.0.1", server)
    return BackendConfig("http-demo", "/", servers=[replica], app_name="demo", fallback_server=own)

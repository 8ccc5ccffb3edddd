"""What can be found wrong before anything is started. Imports neither Ray nor vLLM."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from ascend_serve.errors import ModelError, PortInUseError


def check_model(path: str) -> None:
    """Make sure that ``path`` holds a model.

    Raises:
        ModelError: It does not, with what is missing.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ModelError(f"model.path: {folder.absolute()} {what}", _MODEL_REMEDY)
    if not (folder / "config.json").is_file():
        raise ModelError(f"model.path: {folder.absolute()} has no config.json", _MODEL_REMEDY)


_MODEL_REMEDY = (
    "Set model.path to a folder with config.json, tokenizer and safetensors. Relative paths start at the current "
    "directory; `make serve` makes the model of configs/demo.yaml."
)


def check_port(host: str, port: int) -> None:
    """Make sure that a server can listen on ``host:port``.

    Raises:
        PortInUseError: It cannot, with the reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortInUseError(
            f"Cannot listen on serving.host {host}, serving.port {port}: {error.strerror or error}",
            f"Choose another port, for example serving.port={_free_port(host)}, or stop what listens there "
            f"(`ss -ltnp sport = :{port}` names it).",
        ) from error


def _free_port(host: str) -> int:
    with contextlib.suppress(OSError), socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])
    return 8001

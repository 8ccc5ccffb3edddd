"""TCP ports of this machine: one that is free, and one that stays free for a server that starts later."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20000
"""Above the ports of Ray's workers (``--min-worker-port`` 10002 to ``--max-worker-port`` 19999)."""
_TRIES = 64


def free_port(host: str) -> int:
    """A port of ``host`` that nobody listens on, of those that the kernel gives to nobody who asks for any port.

    Ray's processes ask for dozens of those while they start, and each connection takes one.

    Raises:
        OSError: The machine has no such address, or no port is free.
    """
    ports = range(_LOWEST, max(_ephemeral(), _LOWEST))
    for port in random.sample(ports, min(_TRIES, len(ports))):
        with contextlib.suppress(OSError), _bound(host, port):
            return port
    with _bound(host, 0) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def kept_port(host: str, port: int) -> Iterator[None]:
    """Let the kernel give ``port`` to nobody who asks for any port, until the end of this context.

    It is bound, not listened on: a server that reuses addresses or ports, as HAProxy and Ray Serve's proxy do, can
    listen on it. Where somebody has it already, nothing is kept.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(_bound(host, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT))
        yield


@contextmanager
def _bound(host: str, port: int, *options: int) -> Iterator[socket.socket]:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as bound:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
        yield bound


def _ephemeral() -> int:
    """The lowest port that the kernel gives to whoever asks for any."""
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        return 0

"""Two hosts on one machine: network namespaces with an interface and an address of their own, joined by a cable."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        namespace: Its name.
        interface: Its only interface besides ``lo``.
        address: The interface's address.
    """

    namespace: str
    interface: str
    address: str

    def command(self, *words: object) -> list[str]:
        """The command that runs ``words`` on this host."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]


HEAD = Host(f"as-head-{os.getpid()}", "ashead0", "10.77.0.1")
WORKER = Host(f"as-worker-{os.getpid()}", "asworker0", "10.77.0.2")


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make both hosts, and take them down at the end.

    Raises:
        OSError: There is no ``ip`` command.
        subprocess.CalledProcessError: This process may not make namespaces or interfaces.
    """
    try:
        for host in (HEAD, WORKER):
            _ip("netns", "add", host.namespace)
        _ip("link", "add", HEAD.interface, "netns", HEAD.namespace, "type", "veth", "peer", "name", WORKER.interface)
        _ip("link", "set", WORKER.interface, "netns", WORKER.namespace)
        for host in (HEAD, WORKER):
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", host.interface)
            for interface in ("lo", host.interface):
                _ip("-n", host.namespace, "link", "set", interface, "up")
            # Ray looks for the interface of the default route when it is not told an address.
            _ip("-n", host.namespace, "route", "add", "default", "dev", host.interface)
        yield HEAD, WORKER
    finally:
        for host in (HEAD, WORKER):
            subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ascend_serve.node.ports import free_port, kept_port

HOST = "127.0.0.1"


def test_a_free_port_is_none_that_the_kernel_gives_to_whoever_asks_for_any() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port(HOST)
    assert port < lowest
    socket.create_server((HOST, port)).close()


def test_an_address_of_another_machine_has_no_free_port() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        free_port("203.0.113.1")


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT], ids=["HAProxy", "Ray Serve's proxy"])
def test_a_kept_port_is_for_servers_that_reuse_it(option: int) -> None:
    port = free_port(HOST)
    with kept_port(HOST, port), socket.socket() as server:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind((HOST, port))
        server.listen()
        with socket.create_connection((HOST, port)), server.accept()[0]:
            pass


def test_a_port_that_somebody_has_is_left_to_them() -> None:
    with socket.create_server((HOST, 0)) as taken, kept_port(HOST, taken.getsockname()[1]):
        socket.create_connection(taken.getsockname()).close()

"""Ports for processes that tests and benchmarks start."""

from __future__ import annotations

from ascend_serve.node import ports


def free_port() -> int:
    """A port of the loopback device that nobody listens on."""
    return ports.free_port("127.0.0.1")

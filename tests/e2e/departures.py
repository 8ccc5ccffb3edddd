"""Clients that go before they have their answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.metrics import counters
from tests.patience import wait_until

GENERATED = "vllm:generation_tokens_total"
TOKENS = 200
"""That a client asks for, and does not wait for."""

_ASKS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "completions": ("/v1/completions", {"prompt": "Hello"}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
}


@dataclass(frozen=True)
class Departure:
    """A client that asks for `TOKENS` tokens and goes after the first.

    Attributes:
        api: Completions or chat.
        stream: Whether it asks for a stream.
    """

    api: str
    stream: bool

    def __str__(self) -> str:
        return f"{self.api}, {'a stream' if self.stream else 'a whole answer'}"

    def tokens(self, http: httpx.Client, headers: Mapping[str, str]) -> int:
        """Ask and go; how many tokens were generated until the engine ran nothing any more.

        Args:
            http: A client of the same server, which reads its metrics.
            headers: What the one that goes sends besides.
        """
        before = counters(http)[GENERATED]
        with socket.create_connection((http.base_url.host, http.base_url.port)) as client:
            client.sendall(self._request(headers))
            assert wait_until(lambda: counters(http)[GENERATED] > before, pause=0.01)
        assert wait_until(lambda: not running(http), pause=0.01)
        return int(counters(http)[GENERATED] - before)

    def _request(self, headers: Mapping[str, str]) -> bytes:
        path, asked = _ASKS[self.api]
        body = json.dumps({"model": "demo", "max_tokens": TOKENS, "ignore_eos": True, "stream": self.stream, **asked})
        content = {"Content-Type": "application/json", "Content-Length": len(body), "Host": "here", **headers}
        lines = (f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in content.items()), "", body)
        return "\r\n".join(lines).encode()


DEPARTURES = tuple(Departure(api, stream) for api in _ASKS for stream in (True, False))


def running(http: httpx.Client) -> bool:
    """Whether the engine has requests, running or waiting."""
    lines = http.get("/metrics").text.splitlines()
    gauges = [line for line in lines if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))]
    assert gauges
    return any(float(line.rsplit(" ", 1)[1]) for line in gauges)

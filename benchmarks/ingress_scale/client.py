"""Many clients in one process that ask for streams, as cheaply as a process of Python can.

``python -m benchmarks.ingress_scale.client PORT CLIENTS TOKENS WARM_UP_SECONDS SECONDS`` prints ``begin``, then what it
has measured as JSON. Chunks are counted, not read: HTTP and JSON are left alone.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

EVENT = b"data: {"
END = b"0\r\n\r\n"
"""The last chunk of an answer in chunked transfer coding."""


@dataclass
class Window:
    """What all clients came to while it was open.

    Attributes:
        tokens: Tokens that came.
        first_ms: Time to the first token of each request that was sent meanwhile.
        next_ms: Time for each further token, the mean of each request that ended meanwhile.
        failed: Requests without a whole answer.
        is_open: Whether it counts.
    """

    tokens: int = 0
    first_ms: list[float] = field(default_factory=list)
    next_ms: list[float] = field(default_factory=list)
    failed: int = 0
    is_open: bool = False


def count_events(tail: bytes, data: bytes) -> tuple[int, bytes]:
    """Events that begin in ``data``, one that began in ``tail`` of the data before it included, and the next tail."""
    joined = tail + data
    return joined.count(EVENT), joined[-(len(EVENT) - 1) :]


class Client(asyncio.Protocol):
    """A client that asks again as soon as it has its answer, and connects again when its connection was closed.

    Args:
        port: Where it asks.
        request: What it sends.
        tokens: How many tokens an answer has.
        window: Where it counts.
    """

    def __init__(self, port: int, request: bytes, tokens: int, window: Window) -> None:
        self._port = port
        self._stopped = False
        self._tail = b""
        self._tokens = 0
        self._sent = self._first = self._last = 0.0
        self._request = request
        self._expected = tokens
        self._window = window

    async def connect(self) -> None:
        """Connect, and ask."""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Count; ask again at the end of the answer."""
        now = time.perf_counter()
        count, self._tail = count_events(self._tail, data)
        if count:
            if not self._tokens:
                self._first = now
                if self._window.is_open:
                    self._window.first_ms.append((now - self._sent) * 1e3)
            self._last = now
            self._tokens += count
            self._window.tokens += count * self._window.is_open
        if data.endswith(END):
            self._end()
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """Ask on another one; an answer that had begun has failed.

        Servers close connections between two answers, as HAProxy does when it is replaced; a request that was just sent
        then is sent again, as by any client.
        """
        if self._stopped:
            return
        self._window.failed += bool(self._tokens) and self._window.is_open
        self._connecting = asyncio.create_task(self.connect())

    def _ask(self) -> None:
        self._tail, self._tokens = b"", 0
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _end(self) -> None:
        if not self._window.is_open:
            return
        if self._tokens != self._expected:
            self._window.failed += 1
        elif self._tokens > 1:
            self._window.next_ms.append((self._last - self._first) / (self._tokens - 1) * 1e3)


async def run(port: int, clients: int, tokens: int, warm_up: float, seconds: float) -> dict[str, float]:
    """Put the load on, and measure in a window of ``seconds``."""
    request = _request(tokens)
    window = Window()
    asking = [Client(port, request, tokens, window) for _ in range(clients)]
    for client in asking:
        await client.connect()
        # So that they are not all at the same token of their answers.
        await asyncio.sleep(warm_up / 2 / clients)
    await asyncio.sleep(warm_up / 2)
    print("begin", flush=True)  # noqa: T201  # To the process that has started this one.
    window.is_open, began, own = True, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    window.is_open, took, own = False, time.perf_counter() - began, time.process_time() - own
    for client in asking:
        client.stop()
    return {
        "tokens": window.tokens,
        "seconds": took,
        "failed": window.failed,
        "first_p50_ms": _percentile(window.first_ms, 50),
        "first_p99_ms": _percentile(window.first_ms, 99),
        "next_p50_ms": _percentile(window.next_ms, 50),
        "next_p99_ms": _percentile(window.next_ms, 99),
        "processor_seconds": own,
    }


def _request(tokens: int) -> bytes:
    body = json.dumps({"model": "demo", "prompt": "Hello", "max_tokens": tokens, "stream": True})
    lines = (
        "POST /v1/completions HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "",
        body,
    )
    return "\r\n".join(lines).encode()


def _percentile(values: list[float], which: int) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100, method="inclusive")[which - 1]


if __name__ == "__main__":
    port, clients, tokens = map(int, sys.argv[1:4])
    print(json.dumps(asyncio.run(run(port, clients, tokens, *map(float, sys.argv[4:6])))))  # noqa: T201

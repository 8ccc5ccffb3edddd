"""Clients that keep a server busy, note every reply, and judge it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from tests.patience import PATIENCE_SECONDS

MAX_TOKENS = 24
_PAUSE_SECONDS = 0.25
_WAIT_SECONDS = 3.0
"""A reply that took longer waited for another engine: by itself it takes a fraction of a second."""


class Verdict(StrEnum):
    """What a reply was worth to its client."""

    RIGHT = "right"
    CLEAN_ERROR = "clean error"
    CUT = "cut, as if complete"
    WRONG = "wrong text"
    BROKEN = "connection broken"
    HANG = "hang"


@dataclass(frozen=True)
class Reply:
    """One reply, with the times on the monotonic clock between which it was waited for."""

    verdict: Verdict
    begun: float
    ended: float
    status: int = 0
    retry_after: str = ""


class Load:
    """Clients that ask the same questions again and again, each second one for a stream.

    Args:
        url: Of the server, which must serve now: its answers are the right ones.
        clients: How many ask at once.
        has_streams: Whether any of them asks for a stream.
    """

    def __init__(self, url: str, clients: int = 8, *, has_streams: bool = True) -> None:
        self._url = url
        self._clients = clients
        self._has_streams = has_streams
        self._stop = threading.Event()
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            self.right = [ask(client, number).json()["choices"][0]["text"] for number in range(clients)]
        self.replies: list[Reply] = []

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Ask while the context lasts, and forget what was noted before."""
        self._stop.clear()
        self.replies.clear()
        with ThreadPoolExecutor(self._clients) as pool:
            done: list[Future[None]] = [pool.submit(self._ask_on, number) for number in range(self._clients)]
            try:
                yield self
            finally:
                self._stop.set()
        for future in done:
            future.result()

    def verdicts(self) -> Counter[Verdict]:
        """How many replies were worth what."""
        return Counter(reply.verdict for reply in self.replies)

    def back_after(self, moment: float) -> float | None:
        """When the first right reply came after what happened at ``moment``.

        That is one that was asked for after the first error, or one that waited meanwhile.
        """
        wrong = (r.ended for r in self.replies if r.ended > moment and r.verdict is not Verdict.RIGHT)
        failed = min(wrong, default=math.inf)
        right = [r for r in self.replies if r.verdict is Verdict.RIGHT]
        waited = (r.begun < moment and r.ended > moment and r.ended - r.begun > _WAIT_SECONDS for r in right)
        return min((r.ended for r, has in zip(right, waited, strict=True) if has or r.begun > failed), default=None)

    def wait_until_back(self, moment: float, patience: float) -> float:
        """Seconds from ``moment`` to the first right reply after what happened then.

        Raises:
            TimeoutError: None came within ``patience`` seconds.
        """
        while time.monotonic() < moment + patience:
            back = self.back_after(moment)
            if back is not None:
                return back - moment
            time.sleep(0.1)
        raise TimeoutError(f"not back within {patience:g} s: {self.verdicts()}")

    def _ask_on(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE_SECONDS) as client:
            while not self._stop.is_set():
                reply = self._judged(client, number)
                self.replies.append(reply)
                if reply.verdict is not Verdict.RIGHT:
                    time.sleep(_PAUSE_SECONDS)

    def _judged(self, client: httpx.Client, number: int) -> Reply:
        begun, status, retry_after = time.monotonic(), 0, ""
        try:
            if self._has_streams and number % 2:
                verdict = judge_stream(client, number, self.right[number])
            else:
                response = ask(client, number)
                status, retry_after = response.status_code, response.headers.get("Retry-After", "")
                verdict = judge(response, self.right[number])
        except httpx.TimeoutException:
            verdict = Verdict.HANG
        except httpx.TransportError:
            verdict = Verdict.BROKEN
        return Reply(verdict, begun, time.monotonic(), status, retry_after)


def ask(client: httpx.Client, number: int) -> httpx.Response:
    """Ask question ``number`` and wait for the whole answer."""
    return client.post("/v1/completions", json=_body(number, stream=False))


def judge(response: httpx.Response, right: str) -> Verdict:
    """Judge an answer that came as a whole."""
    if response.status_code >= 500:
        return Verdict.CLEAN_ERROR
    return Verdict.RIGHT if response.json()["choices"][0]["text"] == right else Verdict.WRONG


def judge_stream(client: httpx.Client, number: int, right: str) -> Verdict:
    """Ask question ``number`` for a stream and judge it: an error has to be told, and must not end with ``[DONE]``."""
    with client.stream("POST", "/v1/completions", json=_body(number, stream=True)) as response:
        if response.status_code >= 500:
            return Verdict.CLEAN_ERROR
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    is_done = events[-1:] == ["[DONE]"]
    parts = [json.loads(event) for event in events if event != "[DONE]"]
    if any("error" in part for part in parts):
        return Verdict.CUT if is_done else Verdict.CLEAN_ERROR
    if not is_done:
        return Verdict.CUT
    return Verdict.RIGHT if "".join(part["choices"][0]["text"] for part in parts) == right else Verdict.CUT


def _body(number: int, *, stream: bool) -> dict[str, Any]:
    return {
        "model": "demo",
        "prompt": f"question {number}",
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }

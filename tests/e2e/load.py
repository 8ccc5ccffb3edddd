"""Clients that keep a server busy, note every reply, and judge it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import httpx

from tests.patience import PATIENCE_SECONDS

PATH = "/v1/completions"
MAX_TOKENS = 24
_PAUSE_SECONDS = 0.25
_WAIT_SECONDS = 3.0
"""A reply that took longer waited for another engine: by itself it takes a fraction of a second."""
_SILENCE_SECONDS = 1.5
"""So long no client gets a token only where there is no engine; a step takes a fraction of it."""


class Verdict(StrEnum):
    """What a reply was worth to its client."""

    RIGHT = "right"
    CLEAN_ERROR = "clean error"
    REFUSED = "refused, not to be asked again"
    CUT = "cut, as if complete"
    WRONG = "wrong text"
    BROKEN = "connection broken"
    HANG = "hang"


@dataclass(frozen=True)
class Reply:
    """One reply, with the times on the monotonic clock between which it was waited for.

    Attributes:
        tokens: Times at which tokens of a stream came.
    """

    verdict: Verdict
    begun: float
    ended: float
    status: int = 0
    retry_after: str = ""
    tokens: tuple[float, ...] = ()

    @property
    def longest_wait(self) -> float:
        """Seconds for which its client got no token, at most."""
        return max(later - earlier for earlier, later in pairwise((self.begun, *self.tokens, self.ended)))

    @property
    def is_at_once(self) -> bool:
        """Whether a stream gave out nothing before the last tenth of its time."""
        return bool(self.tokens) and self.tokens[0] - self.begun > 0.9 * (self.ended - self.begun)


@dataclass
class _Heard:
    """What came of a stream so far: its events, and when each of them came."""

    events: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class Load:
    """Clients that ask the same questions again and again, each second one for a stream.

    Args:
        url: Of the server, which must serve now: its answers are the right ones.
        clients: How many ask at once.
        streams: Of so many clients one asks for streams; 0 is none.
        tokens: Tokens of each answer.
        patience: Seconds without a byte after which a client gives up.
    """

    def __init__(
        self,
        url: str,
        clients: int = 8,
        *,
        streams: int = 2,
        tokens: int = MAX_TOKENS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._url = url
        self._clients = clients
        self._streams = streams
        self._tokens = tokens
        self._patience = patience
        self._stop = threading.Event()
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            whole = [client.post(PATH, json=self._body(number)).json() for number in range(clients)]
        self.right = [answer["choices"][0]["text"] for answer in whole]
        self.replies: list[Reply] = []
        self.token_times: list[float] = []

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Ask while the context lasts, and forget what was noted before."""
        self._stop.clear()
        self.replies.clear()
        self.token_times.clear()
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
        return self._wait_for(lambda: self.back_after(moment), moment, patience)

    def wait_for_token(self, moment: float, patience: float) -> float:
        """Seconds from ``moment`` to the first token of a stream after the silence that began then.

        Raises:
            TimeoutError: None came within ``patience`` seconds.
        """
        return self._wait_for(lambda: self.token_after(moment), moment, patience)

    def token_after(self, moment: float) -> float | None:
        """When the first token of a stream came after the first silence after ``moment``."""
        times = [moment, *sorted(time for time in self.token_times.copy() if time > moment)]
        silences = (later for earlier, later in pairwise(times) if later - earlier > _SILENCE_SECONDS)
        return next(silences, None)

    def _wait_for(self, look: Callable[[], float | None], moment: float, patience: float) -> float:
        while time.monotonic() < moment + patience:
            if (found := look()) is not None:
                return found - moment
            time.sleep(0.1)
        raise TimeoutError(f"not back within {patience:g} s: {self.verdicts()}")

    def _ask_on(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=self._patience) as client:
            while not self._stop.is_set():
                reply = self._judged(client, number)
                self.replies.append(reply)
                if reply.verdict is not Verdict.RIGHT:
                    time.sleep(_PAUSE_SECONDS)

    def _judged(self, client: httpx.Client, number: int) -> Reply:
        begun, status, retry_after = time.monotonic(), 0, ""
        heard = _Heard()
        try:
            if self._streams and (number + 1) % self._streams == 0:
                verdict = self._judge_stream(client, number, heard)
            else:
                response = client.post(PATH, json=self._body(number))
                status, retry_after = response.status_code, response.headers.get("Retry-After", "")
                verdict = judge(response, self.right[number])
        except httpx.TimeoutException:
            verdict = Verdict.HANG
        except httpx.TransportError:
            is_right = self.right[number].startswith(_text(heard.events))
            verdict = Verdict.BROKEN if is_right else Verdict.WRONG
        return Reply(verdict, begun, time.monotonic(), status, retry_after, tuple(heard.times))

    def _judge_stream(self, client: httpx.Client, number: int, heard: _Heard) -> Verdict:
        """Ask for a stream and judge it."""
        with client.stream("POST", PATH, json=self._body(number, stream=True)) as response:
            if response.is_error:
                return _refusal(response.status_code)
            for line in response.iter_lines():
                if line.startswith("data: "):
                    heard.events.append(line.removeprefix("data: "))
                    heard.times.append(time.monotonic())
                    self.token_times.append(heard.times[-1])
        return judge_events(heard.events, self.right[number])

    def _body(self, number: int, *, stream: bool = False) -> dict[str, Any]:
        return {
            "model": "demo",
            "prompt": f"question {number}",
            "max_tokens": self._tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": stream,
        }


def judge(response: httpx.Response, right: str) -> Verdict:
    """Judge an answer that came as a whole."""
    if response.is_error:
        return _refusal(response.status_code)
    return Verdict.RIGHT if response.json()["choices"][0]["text"] == right else Verdict.WRONG


def judge_events(events: Sequence[str], right: str) -> Verdict:
    """Judge a stream: an error has to be told, and must not end with ``[DONE]``."""
    is_done = events[-1:] == ["[DONE]"]
    text = _text(events)
    if not right.startswith(text):
        return Verdict.WRONG
    if any("error" in content for content in _contents(events)):
        return Verdict.CUT if is_done else Verdict.CLEAN_ERROR
    return Verdict.RIGHT if is_done and text == right else Verdict.CUT


def _contents(events: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(event) for event in events if event != "[DONE]"]


def _text(events: Sequence[str]) -> str:
    """The text so far of a stream."""
    return "".join(choice["text"] for content in _contents(events) for choice in content.get("choices", ()))


def _refusal(status: int) -> Verdict:
    return Verdict.CLEAN_ERROR if status >= 500 else Verdict.REFUSED

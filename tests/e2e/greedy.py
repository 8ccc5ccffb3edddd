"""What one client can ask that takes the engine away from others: a table, and the clients that ask it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.patience import PATIENCE_SECONDS

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
_GONE_SECONDS = 1.0
"""After which a client that does not wait for its answer goes."""

UNREAD = "not read"
GONE = "gone"


class Manner(StrEnum):
    """What a client does after it has asked."""

    WAIT = "waits, and asks again"
    GO = "goes, and asks again"
    NOT_READ = "does not read"


@dataclass(frozen=True)
class Greed:
    """What a client asks of which others must notice nothing.

    Attributes:
        name: What is greedy about it.
        at_once: How many connections ask it.
    """

    name: str
    path: str
    body: Mapping[str, Any]
    at_once: int = 1
    manner: Manner = Manner.WAIT

    def __str__(self) -> str:
        return f"{self.at_once} x {self.name}" if self.at_once > 1 else self.name

    @contextmanager
    def running(self, url: str, headers: Mapping[str, str]) -> Iterator[Counter[str]]:
        """Ask while the context lasts; yields what became of the requests so far."""
        told: Counter[str] = Counter()
        stop = threading.Event()
        clients = [_Client(self, url, headers, told, stop) for _ in range(self.at_once)]
        for client in clients:
            client.start()
        try:
            yield told
        finally:
            stop.set()
            for client in clients:
                client.end()


class _Client(threading.Thread):
    """One connection, which can be cut from outside."""

    def __init__(
        self, greed: Greed, url: str, headers: Mapping[str, str], told: Counter[str], stop: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self._greed = greed
        self._address = urlsplit(url)
        self._told = told
        self._stop_asking = stop
        self._socket: socket.socket | None = None
        self._request = _request(greed, headers)

    def run(self) -> None:
        while not self._stop_asking.is_set():
            with contextlib.suppress(OSError):
                self._told[self._ask()] += 1

    def end(self) -> None:
        """Cut the connection, and wait until nothing more is asked."""
        while self.is_alive():
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            self.join(0.1)

    def _ask(self) -> str:
        with socket.create_connection((self._address.hostname, self._address.port), PATIENCE_SECONDS) as connection:
            self._socket = connection
            connection.sendall(self._request)
            if self._greed.manner is Manner.GO:
                self._stop_asking.wait(_GONE_SECONDS)
                return GONE
            if self._greed.manner is Manner.NOT_READ:
                self._stop_asking.wait()
                return UNREAD
            return _status(connection)


def _status(connection: socket.socket) -> str:
    """Read the whole answer, which ends with its connection, and tell its status and the beginning of a refusal."""
    answer = bytearray(connection.recv(4096))
    while part := connection.recv(2**20):
        if len(answer) < 4096:
            answer += part
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode() if head else "cut"
    return status if status == "200" else f"{status} {body[:160].decode(errors='replace')}"


def _request(greed: Greed, headers: Mapping[str, str]) -> bytes:
    body = json.dumps({"model": "demo", **greed.body}).encode()
    said = {
        "Host": "here",
        "Content-Type": "application/json",
        "Content-Length": len(body),
        "Connection": "close",
        **headers,
    }
    lines = (f"POST {greed.path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items()), "", "")
    return "\r\n".join(lines).encode() + body


_LONG: dict[str, Any] = {"ignore_eos": True, "max_tokens": 900}
_HELLO = [{"role": "user", "content": "Hello"}]
_PART = {"type": "text", "text": ""}
_TEXT = "Hello, all of you. "
_COUNTED = "((a{1,99}){1,99}){1,99}"
"""A regular expression of a million copies."""


def _completion(name: str, at_once: int = 1, manner: Manner = Manner.WAIT, *, prompt: Any = "a", **body: Any) -> Greed:
    return Greed(name, COMPLETIONS, {"prompt": prompt, **body}, at_once, manner)


def _chat(name: str, at_once: int = 1, *, messages: Any = _HELLO, **body: Any) -> Greed:
    return Greed(name, CHAT, {"messages": messages, **body}, at_once)


def _structured(name: str, at_once: int, **constraint: Any) -> Greed:
    return _completion(name, at_once, structured_outputs=constraint)


def _json(name: str, at_once: int, *required: str, **properties: Any) -> Greed:
    schema = {"type": "object", "properties": properties, "required": list(required or properties)}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return _chat(name, at_once, response_format=form)


def _text(size: int) -> str:
    return _TEXT * (size // len(_TEXT))


def _rules(number: int) -> str:
    steps = (f'r{rule} ::= "a" r{rule + 1} | "b" r{rule + 1}' for rule in range(number))
    return "\n".join(("root ::= r0", *steps, f'r{number} ::= "c"'))


_SEQUENCES = (
    _completion("prompts x n of long answers, over the limit", prompt=["a"] * 1024, n=128, **_LONG),
    _completion("prompts x n of long answers", prompt=["a"] * 64, n=4, **_LONG),
    _completion("prompts x n of long answers, gone", 4, Manner.GO, prompt=["a"] * 64, n=4, **_LONG),
    _completion("a long answer", 100, **_LONG),
    _completion("n 128, streamed", n=128, stream=True, **_LONG),
    _completion("60 long prompts", 8, prompt=["a" * 1000] * 60, max_tokens=1),
    Greed("3,000 chats in a batch, over the limit", f"{CHAT}/batch", {"messages": [_HELLO] * 3000}),
    Greed("256 chats in a batch", f"{CHAT}/batch", {"messages": [_HELLO] * 256, "max_tokens": 50}, 4),
    _completion("64 answers with 20 logprobs", 2, n=64, logprobs=20, **_LONG),
    _completion("logprobs of 8 long prompts, over the limit", 4, prompt=["a" * 1000] * 8, prompt_logprobs=20),
    _completion("logprobs of 2 long prompts", 4, prompt=["a" * 1000] * 2, prompt_logprobs=20, max_tokens=1),
    _completion("logprobs of whole answers", 4, n=8, logprobs=20, ignore_eos=True, max_tokens=600),
    _completion("beam search", 4, use_beam_search=True, n=32, max_tokens=200),
    _completion("1,000 stop strings", 8, stop=[f"zz{number}" for number in range(1000)], **_LONG),
)
"""Much for the engine."""

_BODIES = (
    Greed("8 MB to tokenize", "/tokenize", {"prompt": _text(8_000_000)}, 5),
    Greed("60 kB to tokenize", "/tokenize", {"prompt": _text(60_000)}, 20),
    Greed("1,600 messages to tokenize", "/tokenize", {"messages": [{"role": "user", "content": ""}] * 1600}, 20),
    Greed("20,000 tokens to detokenize", "/detokenize", {"tokens": [5] * 20_000}, 20),
    _completion("a text that is too long", 20, prompt=_text(60_000)),
    _completion("15,000 empty prompts", 20, prompt=[[]] * 15_000),
    _completion("a logit_bias of 4,000 tokens", 20, logit_bias={str(token): 1 for token in range(4000)}),
    _chat("15,000 messages that are none", 20, messages=[{}] * 15_000),
    _chat("15,000 tools that are none", 20, tools=[{}] * 15_000),
    _chat("1,500 parts of a message", 20, messages=[{"role": "user", "content": [_PART] * 1500}]),
    _chat("deep lists", 20, messages=json.loads("[" * 200 + "]" * 200)),
    Greed("15,000 items that are none", "/v1/responses", {"input": [{}] * 15_000}, 20),
    Greed("15,000 of Anthropic's messages", "/v1/messages", {"messages": [{}] * 15_000, "max_tokens": 1}, 20),
)
"""Much to read, to validate and to tokenize."""

_GRAMMARS = (
    _structured("50,000 choices, over the limit", 1, choice=list(map(str, range(50_000)))),
    _structured("1,000 choices", 20, choice=[str(number) * 10 for number in range(1000)]),
    _structured("nested quantifiers", 20, regex="(((a+)+)+)+b"),
    _structured("counts of any character", 8, regex="(.{0,1000}x){50}"),
    _structured("counts of counts", 8, regex=_COUNTED),
    _structured("8,000 words", 20, regex="|".join(f"w{number}" for number in range(8000))),
    _structured("1,500 rules", 20, grammar=_rules(1500)),
    _json("100 patterns", 20, **{f"a{number}": {"type": "string", "pattern": "(.*a){20}"} for number in range(100)}),
    _json("a pattern of counts of counts", 20, a={"type": "string", "pattern": _COUNTED}),
    _json("600 ranges", 20, **{f"a{n}": {"type": "integer", "minimum": n, "maximum": 10**9 + n} for n in range(600)}),
    _json("1,000 properties, all but one optional", 20, "p1", **{f"p{n}": {"type": "string"} for n in range(1000)}),
    _json("a string of a million", 20, a={"type": "string", "minLength": 10**6, "maxLength": 2 * 10**6}),
)
"""Much to compile."""

_UNREAD = (
    _completion("unread streams", 60, Manner.NOT_READ, stream=True, **_LONG),
    _completion("unread streams with 20 logprobs", 8, Manner.NOT_READ, n=16, logprobs=20, stream=True, **_LONG),
    _completion("unread answers with 20 logprobs", 8, Manner.NOT_READ, n=16, logprobs=20, **_LONG),
)
"""Much that nobody reads."""

TABLE = (*_SEQUENCES, *_BODIES, *_GRAMMARS, *_UNREAD)


@dataclass(frozen=True)
class Answer:
    """What a steady client got.

    Attributes:
        text: The answer, or the refusal.
        seconds: How long it took.
    """

    text: str
    seconds: float


def ask(client: httpx.Client) -> Answer:
    """A short greedy request; its text is always the same."""
    body = {"model": "demo", "prompt": "The quick brown fox", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
    begun = time.monotonic()
    response = client.post(COMPLETIONS, json=body)
    seconds = time.monotonic() - begun
    if response.is_error:
        return Answer(f"{response.status_code} {response.text[:200]}", seconds)
    return Answer(response.json()["choices"][0]["text"], seconds)

"""Answers of any API, streamed or whole, as what their client has in the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.patience import PATIENCE_SECONDS

DELTAS = ("response.output_text.delta", "content_block_delta")
"""Events of the APIs whose events have names that carry text."""


@dataclass
class Answer:
    """What a client has got.

    Attributes:
        status: HTTP's.
        texts: Text of each choice.
        ends: Finish reason and stop reason of each choice.
        tokens: Tokens of the logprobs.
        logprobs: Their values.
        usage: Numbers of tokens.
        error: What it was told, if it was.
        is_whole: Whether it ended as it should.
        comments: Comments in its stream.
    """

    status: int = 200
    texts: dict[int, str] = field(default_factory=dict)
    ends: dict[int, tuple[str, Any]] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    error: Any = None
    is_whole: bool = False
    comments: list[str] = field(default_factory=list)

    def take(self, content: Mapping[str, Any]) -> None:
        """Add a chunk, an event or a whole answer."""
        self.error = content.get("error") or self.error
        self.usage = content.get("usage") or self.usage
        for choice in content.get("choices") or ():
            self._take_choice(choice)
        if content.get("type") in DELTAS:
            delta = content["delta"]
            self.texts[0] = self.texts.get(0, "") + (delta if isinstance(delta, str) else delta.get("text", ""))
        self.is_whole |= content.get("type") in ("response.completed", "message_stop")

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        index = choice["index"]
        message = choice.get("message") or choice.get("delta") or choice
        self.texts[index] = self.texts.get(index, "") + (message.get("content") or message.get("text") or "")
        if choice.get("finish_reason"):
            self.ends[index] = (choice["finish_reason"], choice.get("stop_reason"))
        logprobs = choice.get("logprobs") or {}
        content = logprobs.get("content") or ()
        self.tokens += logprobs.get("tokens") or [each["token"] for each in content]
        self.logprobs += logprobs.get("token_logprobs") or [each["logprob"] for each in content]


@dataclass(frozen=True)
class Question:
    """A request: the path of its API and its body."""

    path: str
    body: Mapping[str, Any]

    @property
    def is_stream(self) -> bool:
        return bool(self.body.get("stream"))


def ask_all(
    url: str, questions: Mapping[str, Question], meanwhile: Callable[[], None] | None = None
) -> dict[str, Answer]:
    """Ask all at once.

    Args:
        url: Of the server.
        questions: By name.
        meanwhile: What to do when each stream has given something out; a whole answer is under way by then.
    """
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(len(questions)) as pool:
        asked = {name: pool.submit(_ask, url, question, begun.release) for name, question in questions.items()}
        for question in questions.values():
            assert not question.is_stream or begun.acquire(timeout=PATIENCE_SECONDS)
        if meanwhile is not None:
            meanwhile()
        return {name: future.result() for name, future in asked.items()}


def _ask(url: str, question: Question, begin: Callable[[], None]) -> Answer:
    with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
        if question.is_stream:
            with client.stream("POST", question.path, json=question.body) as response:
                return _streamed(response, begin)
        response = client.post(question.path, json=question.body)
        answer = Answer(response.status_code, is_whole=response.is_success)
        answer.take(response.json())
        return answer


def _streamed(response: httpx.Response, begin: Callable[[], None]) -> Answer:
    answer = Answer(response.status_code)
    if response.is_error:
        begin()
        answer.take(json.loads(response.read()))
        return answer
    for line in _lines(response.iter_lines(), answer.comments):
        if line == "[DONE]":
            answer.is_whole = True
        else:
            had_text = bool(answer.texts.get(0))
            answer.take(json.loads(line))
            if answer.texts.get(0) and not had_text:
                begin()
    return answer


def _lines(lines: Iterable[str], comments: list[str]) -> Iterable[str]:
    for line in lines:
        if line.startswith(":"):
            comments.append(line)
        elif line.startswith("data: "):
            yield line.removeprefix("data: ")

"""Lines of a batch: requests in our form or in that of OpenAI's Batch API, and what is answered to each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascend_serve.offline.offline_replica import Answer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

_OK = 200
_NOT_OF_THE_BODY = ("id", "custom_id")
_PLAIN_CHOICE = frozenset({"index", "text", "message", "finish_reason"})
_PLAIN_MESSAGE = frozenset({"role", "content"})


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line of the input.

    Attributes:
        id: The request's ``id`` or ``custom_id``, else the line's number, from 1.
        body: The body of the request; ``None`` when the line holds none.
        error: Why the line holds no request.
        path: Of the API.
        of_openai: Whether the line has the form of OpenAI's Batch API, and its answer gets it, too.
    """

    id: Any
    body: dict[str, Any] | None = None
    error: str = ""
    path: str = COMPLETIONS
    of_openai: bool = False


def parse_line(number: int, text: str) -> RequestLine:
    """Read one line.

    It is an object with ``prompt`` or ``messages``, sampling parameters and an ``id`` or ``custom_id`` as wanted; or
    one with ``custom_id``, ``method``, ``url`` and ``body``, as OpenAI's Batch API takes it.
    """
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        return RequestLine(number, error=f"line {number} is not valid JSON: {error}")
    return line_of(number, request)


def line_of(number: int, request: Any) -> RequestLine:
    """As `parse_line`, of what is read already.

    Args:
        number: Of the line or row.
        request: What it holds.
    """
    if not isinstance(request, dict):
        return RequestLine(number, error=f"line {number} is not a JSON object but {type(request).__name__}")
    if "url" in request or "body" in request:
        return _of_openai(number, request)
    body = {key: value for key, value in request.items() if key not in _NOT_OF_THE_BODY}
    identifier = request.get("custom_id", request.get("id", number))
    if ("prompt" in body) == ("messages" in body):
        return RequestLine(identifier, error=f'line {number} needs either "prompt" or "messages"')
    return RequestLine(identifier, body, path=CHAT if "messages" in body else COMPLETIONS)


def _of_openai(number: int, request: Mapping[str, Any]) -> RequestLine:
    identifier, url, body = request.get("custom_id", number), request.get("url"), request.get("body")
    problem = ""
    if not isinstance(url, str) or not url.startswith("/v1/"):
        problem = f'"url" is {json.dumps(url)}, not a path of the API, such as {CHAT}'
    elif not isinstance(body, dict):
        problem = '"body" is not a JSON object'
    elif request.get("method", "POST") != "POST":
        problem = f'"method" is {json.dumps(request["method"])}, not POST'
    if problem:
        return RequestLine(identifier, error=f"line {number}: {problem}", of_openai=True)
    return RequestLine(identifier, body, path=str(url), of_openai=True)


def record_of(line: RequestLine, answer: Answer | None) -> dict[str, Any]:
    """What is written for a line; without an answer its error, as it holds no request."""
    if line.of_openai:
        return _openai_record(line, answer)
    if answer is None or answer.response is None:
        return {"id": line.id, "error": line.error if answer is None else answer.error}
    record = {"id": line.id, "text": answer.text, "finish_reason": answer.finish_reason}
    if not _is_plain(answer.response.get("choices") or []):
        record["choices"] = answer.response["choices"]
    return {**record, "usage": answer.response.get("usage")}


def has_failed(record: Mapping[str, Any]) -> bool:
    """Whether a record holds no answer."""
    response = record.get("response")
    status = response.get("status_code", _OK) if isinstance(response, Mapping) else _OK
    return record.get("error") is not None or status != _OK


def record_id(record: Mapping[str, Any]) -> Any:
    """The id of the request that a record answers."""
    return record.get("custom_id", record["id"])


def _openai_record(line: RequestLine, answer: Answer | None) -> dict[str, Any]:
    """A line of a batch's output or error file, as OpenAI's API reference has it."""
    record = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": line.id, "response": None, "error": None}
    if answer is None:
        return {**record, "error": {"code": "invalid_line", "message": line.error}}
    body = answer.refusal if answer.response is None else answer.response
    request_id = (answer.response or {}).get("id", record["id"])
    return {**record, "response": {"status_code": answer.status, "request_id": request_id, "body": body}}


def _is_plain(choices: list[dict[str, Any]]) -> bool:
    """Whether one text and the reason of its end say all that there is: no logprobs, tool calls or thoughts."""
    if len(choices) > 1:
        return False
    message = {name for choice in choices for name, value in (choice.get("message") or {}).items() if value}
    beside = {name for choice in choices for name, value in choice.items() if value is not None}
    return beside <= _PLAIN_CHOICE and message <= _PLAIN_MESSAGE

"""What a client is told whose engine is gone, in the words of the API that it speaks. Pure."""

from __future__ import annotations

import json
from typing import Any

_MESSAGE = "The engine is being replaced; try again."
_STATUS = 503

_MESSAGES = "/v1/messages"
_RESPONSES = "/v1/responses"


def refusal(path: str) -> dict[str, Any]:
    """The body of the answer to a request that has none yet.

    Args:
        path: What was asked, below the application's route prefix.
    """
    if path.startswith(_MESSAGES):
        return {"type": "error", "error": {"type": "overloaded_error", "message": _MESSAGE}}
    return {"error": {"message": _MESSAGE, "type": "ServiceUnavailableError", "param": None, "code": _STATUS}}


def event(path: str, number: int) -> bytes:
    """The last event of a stream that has begun: Anthropic's, that of OpenAI's responses, or of its older APIs.

    Args:
        path: As of `refusal`.
        number: How many events came before.
    """
    if path.startswith(_MESSAGES):
        return _event(refusal(path), "error")
    if path.startswith(_RESPONSES):
        error = {"type": "error", "code": "server_error", "message": _MESSAGE, "param": None}
        return _event({**error, "sequence_number": number}, "error")
    return _event(refusal(path))


def _event(data: dict[str, Any], name: str | None = None) -> bytes:
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(data)}\n\n".encode()

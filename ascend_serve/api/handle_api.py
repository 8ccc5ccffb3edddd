"""The OpenAI API without HTTP: what the handle of a deployment offers to other deployments of an application."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx

from ascend_serve.api.streaming_transport import StreamingTransport
from ascend_serve.errors import RequestError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

Body = Mapping[str, Any]
"""The body of a request or of an answer, as OpenAI's API has it."""

Reply = dict[str, Any] | AsyncGenerator[dict[str, Any], None]
"""The body of an answer, or its chunks where the request said ``"stream": true``."""

_EVENT_END = b"\n\n"
_DATA = b"data: "
_DONE = b"[DONE]"


class HandleApi:
    """Asks an application in this process, so that its answers are those that HTTP clients get.

    Args:
        app: The replica's application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._client = httpx.AsyncClient(transport=StreamingTransport(app), base_url="http://replica", timeout=None)

    async def ask(self, path: str, body: Body) -> Reply:
        """Answer the body of a request.

        Args:
            path: Of the API, for example ``/v1/chat/completions``.
            body: As a client would send it.

        Raises:
            RequestError: The answer is an error; of a stream that is found when its chunks are read.
            TypeError: ``body`` is not a mapping.
        """
        if not isinstance(body, Mapping):
            raise TypeError(f"a request is a dict, the body of an OpenAI request, not {type(body).__name__}")
        if body.get("stream"):
            return self._chunks(path, body)
        response = await self._client.post(path, json=dict(body))
        if response.is_error:
            raise _error(response)
        answer: dict[str, Any] = response.json()
        return answer

    async def _chunks(self, path: str, body: Body) -> AsyncGenerator[dict[str, Any], None]:
        async with self._client.stream("POST", path, json=dict(body)) as response:
            if response.is_error:
                await response.aread()
                raise _error(response)
            async for event in _events(response.aiter_bytes()):
                chunk = json.loads(event)
                if "error" in chunk:
                    raise RequestError.of(chunk)
                yield chunk


async def _events(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events but the last one, ``[DONE]``; vLLM writes each event as one line."""
    buffered = b""
    async for part in parts:
        *events, buffered = (buffered + part).split(_EVENT_END)
        for event in events:
            # Comments begin otherwise: they keep the stream open.
            data = event.removeprefix(_DATA)
            if data not in (event, _DONE):
                yield data


def _error(response: httpx.Response) -> RequestError:
    try:
        body = response.json()
    except ValueError:
        body = {"error": {"message": response.text, "code": response.status_code}}
    retry_after = response.headers.get("Retry-After", "")
    return RequestError.of(body, response.status_code, int(retry_after) if retry_after.isdigit() else None)

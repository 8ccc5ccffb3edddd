"""A program that answers as a replica does whose streams are kept (`ascend_serve.api.stream_journal`).

    python -m tests.unit.serving.kept_replica PORT [MODEL]

What it does stands in the body of the request; token n of a stream is the number n.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ascend_serve.api.stream_journal import GIVEN, KEEP, MODEL, SECRET_VARIABLE, Output, split_body

IDENTITY = "the model"
WHOLE = gzip.compress(b"an answer that is no stream", mtime=0)


async def whole(request: Request) -> Response:
    """What has come, or with "whole" in the query something that a proxy may spoil."""
    if "whole" not in request.query_params:
        forwarded = request.headers.getlist("X-Forwarded-For")
        return JSONResponse({"headers": dict(request.headers), "forwarded": forwarded, "path": str(request.url.path)})
    answer = Response(WHOLE, 418, {"Content-Encoding": "gzip", "X-Two": "1"}, "application/x-own")
    answer.headers.append("Set-Cookie", "a=1")
    answer.headers.append("Set-Cookie", "b=2")
    return answer


async def generate(request: Request) -> Response:
    """A stream as the body wants it:

    tokens: How many.
    waits: File that it waits for after the first one.
    dies_at: Token at which the replica ends, unless it goes on with the stream of another one.
    ends_replicas: Whether it ends then, too.
    flood: Bytes of each event.
    """
    body = await request.body()
    outputs: tuple[Output, ...] = ()
    if GIVEN in request.headers:
        body, outputs = split_body(body, int(request.headers[GIVEN]))
    wish = json.loads(body)
    if not wish.get("tokens"):
        return await whole(request)
    headers = {}
    if request.headers.get(KEEP) == os.environ[SECRET_VARIABLE]:
        headers[MODEL] = _identity()
        if GIVEN in request.headers and request.headers[MODEL] != _identity():
            return JSONResponse({}, 409)
    stream = _stream(wish, outputs, is_kept=MODEL in headers, name=request.headers.get("X-Request-Id", ""))
    return StreamingResponse(stream, headers=headers, media_type="text/event-stream")


async def _stream(wish: dict[str, Any], given: Sequence[Output], *, is_kept: bool, name: str) -> AsyncIterator[bytes]:
    for token in range(wish["tokens"]):
        if token == wish.get("dies_at") and (not given or wish.get("ends_replicas")):
            os._exit(1)
        told = Output((token,)).comment() if is_kept else b""
        text = "x" * wish.get("flood", 0)
        yield (
            told
            + b"data: %s\n\n" % json.dumps({"id": name, "created": os.getpid(), "token": token, "x": text}).encode()
        )
        while token == 0 and "waits" in wish and not Path(wish["waits"]).exists():
            await asyncio.sleep(0.02)
    yield b"data: [DONE]\n\n"


def _identity() -> str:
    return sys.argv[2] if len(sys.argv) > 2 else IDENTITY


async def healthy(_: Request) -> Response:
    return PlainTextResponse("success")


if __name__ == "__main__":
    routes = [
        Route("/-/healthz", healthy),
        Route("/v1/chat/completions", generate, methods=["POST"]),
        Route("/v1/completions", generate, methods=["POST"]),
        Route("/{path:path}", whole, methods=["GET", "POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[1]), log_level="critical", lifespan="off")

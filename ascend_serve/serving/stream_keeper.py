"""The stream keeper: a process beside HAProxy, by way of which streams go on in another replica.

HAProxy sends it what clients ask for, and it asks HAProxy again, which asks a replica. Where that one is lost, the
keeper asks once more, with what the client has so far (`ascend_serve.api.stream_journal`). It knows no replicas.
Imports nothing large: it stands between clients and their tokens from HAProxy's first moment.

    python -m ascend_serve.serving.stream_keeper FOLDER OWNER_PID
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, UnixConnector, web
from multidict import CIMultiDict
from yarl import URL

from ascend_serve.api import lost_engine
from ascend_serve.api.open_streams import PERIOD_SECONDS
from ascend_serve.api.stream_journal import GIVEN, KEEP, MODEL, SECRET_VARIABLE, Output, with_outputs
from ascend_serve.serving.client_stream import ClientStream, StreamState
from ascend_serve.serving.keeper_folder import KEEPER, KEPT, LARGEST_BODY, LOCK

PATIENCE_SECONDS = 180.0
"""A stream waits for so long: a replica with a small model starts anew meanwhile."""

_PAUSE_SECONDS = 1.0

_WAITING = b": the replica is being replaced\n\n"
_REPLACED = b": another replica goes on; what is sampled without a seed goes on with other noise\n\n"

_REQUEST_ID = "X-Request-Id"
_ASK_AGAIN = frozenset({502, 503, 504})
_OF_ONE_CONNECTION = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_LARGEST_HEADERS = 2**16
"""As large as HAProxy's buffer, which has them already."""

_MADE_BY_AIOHTTP = ("Content-Type", "Date", "Server")
_NOT_TO_MAKE = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client has asked for.

    Attributes:
        method: Of HTTP.
        target: Path and query, as they came.
        headers: But those of one connection.
        body: As it came.
    """

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes

    def to_go_on(self, model: str, outputs: Sequence[Output]) -> Asked:
        """The same, to go on after ``outputs``, which a replica of identity ``model`` gave."""
        headers = CIMultiDict(self.headers)
        headers[GIVEN] = str(len(self.body))
        headers[MODEL] = model
        return replace(self, headers=headers, body=with_outputs(self.body, outputs))


class _ReplicasAnswer(web.StreamResponse):
    """An answer with the status and headers of a replica's."""

    def __init__(self, inner: ClientResponse) -> None:
        headers = _end_to_end(inner.headers)
        headers.popall(MODEL, None)
        super().__init__(status=inner.status, reason=inner.reason, headers=headers)
        self._made_here = [name for name in _MADE_BY_AIOHTTP if name not in headers]

    def leave_out_own_headers(self) -> None:
        """Take off what aiohttp has put on it."""
        for name in self._made_here:
            self.headers.popall(name, None)


class StreamKeeper:
    """Answers what HAProxy asks by asking HAProxy.

    Args:
        session: To HAProxy.
        secret: By which replicas know that it is the keeper who asks.
    """

    def __init__(self, session: ClientSession, secret: str) -> None:
        self._session = session
        self._secret = secret

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a client; cancelled when that goes."""
        asked = await self._read(request)
        try:
            inner = await self._ask(asked)
        except ClientError:
            # HAProxy takes an answer that does not come for a reason to leave the keeper out.
            return _cut(request)
        try:
            if MODEL in inner.headers and inner.content_type == "text/event-stream":
                return await self._keep(request, asked, inner)
            return await _pass_through(request, inner)
        finally:
            inner.close()

    async def _read(self, request: web.Request) -> Asked:
        headers = _end_to_end(request.headers)
        headers.popall("Content-Length", None)
        headers[KEEP] = self._secret
        headers.setdefault(_REQUEST_ID, uuid.uuid4().hex)
        return Asked(request.method, request.rel_url.raw_path_qs, headers, await request.read())

    async def _ask(self, asked: Asked) -> ClientResponse:
        return await self._session.request(
            asked.method,
            URL(f"http://{KEPT}{asked.target}", encoded=True),
            headers=asked.headers,
            data=asked.body,
            skip_auto_headers=_NOT_TO_MAKE,
            allow_redirects=False,
        )

    async def _keep(self, request: web.Request, asked: Asked, inner: ClientResponse) -> web.StreamResponse:
        stream, model = ClientStream(), inner.headers[MODEL]
        response = await _begun(request, inner)
        await _pass_on(inner, stream, response)
        inner.close()
        while stream.state is not StreamState.COMPLETE:
            if not (stream.go_on() and await self._go_on(asked.to_go_on(model, stream.outputs), stream, response)):
                await response.write(stream.last_words or lost_engine.event(request.path, stream.events))
                break
        await response.write_eof()
        return response

    async def _go_on(self, asked: Asked, stream: ClientStream, response: web.StreamResponse) -> bool:
        """Pass on the stream of another replica, as far as that comes; false where none goes on."""
        comments = asyncio.create_task(_keep_open(response))
        try:
            inner = await self._ask_until_answered(asked)
        finally:
            comments.cancel()
        if inner is None:
            return False
        try:
            if inner.status != 200 or MODEL not in inner.headers:
                return False
            await response.write(_REPLACED)
            await _pass_on(inner, stream, response)
            return True
        finally:
            inner.close()

    async def _ask_until_answered(self, asked: Asked) -> ClientResponse | None:
        """The answer of a replica that can say more than to ask again; ``None`` where patience ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (inner := await self._try(asked)) is None:
                    await asyncio.sleep(_PAUSE_SECONDS)
                return inner
        return None

    async def _try(self, asked: Asked) -> ClientResponse | None:
        try:
            inner = await self._ask(asked)
        except ClientError:
            return None
        if inner.status in _ASK_AGAIN:
            inner.close()
            return None
        return inner


async def _pass_on(inner: ClientResponse, stream: ClientStream, response: web.StreamResponse) -> None:
    """Pass on what a replica's stream has for the client until it ends or is lost."""
    while data := await _read_some(inner):
        if passed := stream.feed(data):
            await response.write(passed)
        if stream.state in (StreamState.LOST, StreamState.OTHER):
            return
    if left := stream.end(is_whole=data is not None):
        await response.write(left)


async def _pass_through(request: web.Request, inner: ClientResponse) -> web.StreamResponse:
    """Pass on an answer as it comes, cut where it is."""
    response = await _begun(request, inner)
    while data := await _read_some(inner):
        await response.write(data)
    if data is None:
        return _cut(request)
    await response.write_eof()
    return response


async def _read_some(inner: ClientResponse) -> bytes | None:
    """What has come; empty at the end, ``None`` where the answer was cut."""
    try:
        return await inner.content.readany()
    except ClientError:
        return None


async def _begun(request: web.Request, inner: ClientResponse) -> web.StreamResponse:
    response = _ReplicasAnswer(inner)
    await response.prepare(request)
    return response


async def _keep_open(response: web.StreamResponse) -> None:
    """Send comments until cancelled, or the client has gone."""
    with suppress(ConnectionError):
        while True:
            await response.write(_WAITING)
            await asyncio.sleep(PERIOD_SECONDS)


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """All headers but those of one connection."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    left_out = _OF_ONE_CONNECTION | named
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in left_out)


def _cut(request: web.Request) -> web.Response:
    """End the connection, so that nobody takes the answer for a whole one."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@asynccontextmanager
async def _listening(keeper: StreamKeeper, owner: int) -> AsyncIterator[None]:
    """Let HAProxy ask ``keeper``, and whoever may look for one learn whose it is."""

    async def tell_owner(_: web.Request) -> web.Response:
        return web.Response(text=str(owner))

    async def prepare(_: web.Request, response: web.StreamResponse) -> None:
        if isinstance(response, _ReplicasAnswer):
            response.leave_out_own_headers()

    app = web.Application(client_max_size=LARGEST_BODY + 1)
    app.on_response_prepare.append(prepare)
    app.router.add_get("/", tell_owner)
    app.router.add_post("/{path:.*}", keeper.answer)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        max_field_size=_LARGEST_HEADERS,
        max_line_size=_LARGEST_HEADERS,
        shutdown_timeout=0.0,
    )
    await runner.setup()
    try:
        await web.UnixSite(runner, KEEPER).start()
        yield
    finally:
        Path(KEEPER).unlink(missing_ok=True)
        await runner.cleanup()


async def _keep_until(ended: int, owner: int, secret: str) -> None:
    """Keep streams until the file ``ended`` can be read, or SIGTERM comes."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(ended, over.set)
    loop.add_signal_handler(signal.SIGTERM, over.set)
    session = ClientSession(
        auto_decompress=False,
        # A connection for each request: one that HAProxy is about to close loses what is asked by it.
        connector=UnixConnector(KEPT, limit=0, force_close=True),
        cookie_jar=DummyCookieJar(),
        max_field_size=_LARGEST_HEADERS,
        max_line_size=_LARGEST_HEADERS,
        timeout=ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
    )
    async with session, _listening(StreamKeeper(session, secret), owner):
        await over.wait()


def main() -> None:
    """Keep streams for the owner's HAProxy until the owner ends, one keeper at a time in a folder."""
    folder, owner = sys.argv[1], int(sys.argv[2])
    os.chdir(folder)
    os.umask(0o177)
    with Path(LOCK).open("w") as lock:
        # One that goes, after an owner that did, has it until then.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            ended = os.pidfd_open(owner)
        except ProcessLookupError:
            return
        asyncio.run(_keep_until(ended, owner, os.environ[SECRET_VARIABLE]))


if __name__ == "__main__":
    main()

"""The page of a start on this machine in a browser, from the file of its events, as long as no replica answers yet."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pydantic import ValidationError

from ascend_serve.events import EVENT
from ascend_serve.telemetry.page import GraphPage
from ascend_serve.telemetry.page_view import PageView, page_view
from ascend_serve.telemetry.story import Story

_LOOK_SECONDS = 0.2
_LIFE_SECONDS = 15.0
"""After so long a stream says something, so that one whose reader is gone ends."""


class FileFollower:
    """Reads a file of events as it grows.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._story = Story()
        self._read = 0
        self._inode = 0

    def story(self) -> Story:
        """What all events by now came to."""
        status = self._file.stat()
        if status.st_ino != self._inode:
            # A file that became too large is written anew.
            self._inode, self._read, self._story = status.st_ino, 0, Story()
        with self._file.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                with suppress(ValidationError):
                    self._story.add(EVENT.validate_json(line))
        return self._story


class PageServer:
    """Serves the page of one start to this machine alone, below a word that nobody guesses.

    Args:
        file: The file of its events.

    Attributes:
        url: Where the page is.
    """

    def __init__(self, file: Path) -> None:
        self._follower = FileFollower(file)
        self._lock = threading.Lock()
        self._page = GraphPage()
        self._path = f"/{secrets.token_urlsafe()}/graph"
        handler = type("_Handler", (_PageHandler,), {"pages": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._path}"

    def serve(self) -> None:
        """Answer until `stop`."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def answers(self, path: str) -> tuple[str, Iterator[str], str] | None:
        """Type, parts and policy of the answer for a path; ``None`` where there is none."""
        if path == self._path:
            return "text/html; charset=utf-8", iter((self._page.whole(self._view()),)), self._page.policy
        if path == f"{self._path}/stream":
            return "text/event-stream", self._changes(), self._page.policy
        return None

    def _view(self) -> PageView:
        with self._lock:
            return page_view(self._follower.story(), live=True, now=time.time())

    def _changes(self) -> Iterator[str]:
        shown: dict[str, str] = {}
        told = time.monotonic()
        while True:
            parts = self._page.parts(self._view())
            changed = {part: html for part, html in parts.items() if shown.get(part) != html}
            if changed or time.monotonic() - told > _LIFE_SECONDS:
                yield f"data: {json.dumps(changed)}\n\n"
                shown, told = parts, time.monotonic()
            time.sleep(_LOOK_SECONDS)


class _PageHandler(BaseHTTPRequestHandler):
    """Answers what a browser asks of a `PageServer`."""

    pages: PageServer

    def do_GET(self) -> None:
        """Answer one request."""
        answer = self.pages.answers(self.path)
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        kind, parts, policy = answer
        self.send_response(HTTPStatus.OK)
        headers = {"Content-Type": kind, "Cache-Control": "no-store", "Content-Security-Policy": policy}
        for name, value in {**headers, "Referrer-Policy": "no-referrer"}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            for part in parts:
                self.wfile.write(part.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on the terminal."""

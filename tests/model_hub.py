"""A model hub on the loopback interface, for the client of Hugging Face: what it asks to download a model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = hashlib.sha1(b"the only commit").hexdigest()


@dataclass
class ModelHub:
    """What the hub has, and what it was asked for.

    Attributes:
        models: Folders of models by id; all have the revision ``main`` alone.
        gated: Models that ask for a token.
        paths: What was downloaded, in order.
        url: Where it is.
    """

    models: dict[str, Path]
    gated: frozenset[str] = frozenset()
    paths: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    hub: ModelHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def _answer(self, *, body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        model = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if model not in self.hub.models:
            self._send(404, b"", body=body, error="RepoNotFound")
        elif model in self.hub.gated:
            self._send(403, b"", body=body, error="GatedRepo")
        elif parts[0] == "api":
            self._api(self.hub.models[model], parts[4:], body=body)
        else:
            content = (self.hub.models[model] / "/".join(parts[4:])).read_bytes()
            if body:
                self.hub.paths.append("/".join(parts[4:]))
            self._send(200, content, body=body)

    def _api(self, folder: Path, rest: list[str], *, body: bool) -> None:
        if rest[1] not in ("main", COMMIT):
            self._send(404, b"", body=body, error="RevisionNotFound")
        elif rest[0] == "revision":
            names = [{"rfilename": file.name} for file in folder.iterdir()]
            self._send(200, json.dumps({"id": "x", "sha": COMMIT, "siblings": names}).encode(), body=body)
        else:
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file.read_bytes())}
                for file in folder.iterdir()
            ]
            self._send(200, json.dumps(tree).encode(), body=body)

    def _send(self, status: int, content: bytes, *, body: bool, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_digest(content)}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextlib.contextmanager
def model_hub(models: dict[str, Path], gated: frozenset[str] = frozenset()) -> Iterator[ModelHub]:
    """Serve models for as long as the block runs; `ModelHub.url` is for ``HF_ENDPOINT``."""
    hub = ModelHub(models, gated)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()

"""Who is taken for one client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ascend_serve.api.clients import Clients

HAPROXY = "127.0.0.1"
ELSEWHERE = "203.0.113.9"
NEAR = "192.0.2.7"


@pytest.mark.parametrize(
    ("has_keys", "peer", "headers", "client"),
    [
        pytest.param(True, NEAR, {"Authorization": "Bearer one"}, "one", id="a key"),
        pytest.param(True, NEAR, {"Authorization": "bEARER one"}, "one", id="a key in other words"),
        pytest.param(True, NEAR, {"Authorization": "Bearer one", "X-Forwarded-For": ELSEWHERE}, "one", id="key first"),
        pytest.param(False, NEAR, {"Authorization": "Bearer one"}, NEAR, id="a key that nobody checked"),
        pytest.param(False, HAPROXY, {"X-Forwarded-For": ELSEWHERE}, ELSEWHERE, id="behind HAProxy"),
        pytest.param(False, HAPROXY, {"X-Forwarded-For": f"1.2.3.4, {ELSEWHERE}"}, ELSEWHERE, id="said by the client"),
        pytest.param(False, NEAR, {"X-Forwarded-For": ELSEWHERE}, NEAR, id="said by a client that asks directly"),
    ],
)
def test_who_asks(has_keys: bool, peer: str, headers: dict[str, str], client: str) -> None:
    told: list[str] = []

    @contextmanager
    def note(client: str) -> Iterator[None]:
        told.append(client)
        yield

    app = Clients(PlainTextResponse("fine"), note, has_keys=has_keys)
    uvicorns = ProxyHeadersMiddleware(app, trusted_hosts=HAPROXY)  # type: ignore[arg-type]
    TestClient(uvicorns, client=(peer, 1)).get("/", headers=headers)  # type: ignore[arg-type]
    assert told == [client]

"""The guards before the application, with an application that echoes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from fastapi import FastAPI, Request, WebSocket
from pydantic import SecretStr
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ascend_serve.api.admission import guarded
from ascend_serve.api.request_limits import RequestLimits
from ascend_serve.config.schema import LimitsConfig

LIMIT = 1000
KEY = "key-2"


def limits(body_bytes: int) -> RequestLimits:
    return RequestLimits(body_bytes, LimitsConfig(sequences=2048), model_tokens=4096)


@pytest.fixture(scope="module", params=["", "/demo"], ids=["at the root", "below a prefix"])
def client(request: pytest.FixtureRequest) -> TestClient:
    app = FastAPI()

    @app.get("/health")
    @app.get("/metrics")
    @app.get("/health/more")
    @app.get("/graph")
    @app.get("/graph/stream")
    async def get() -> str:
        return "fine"

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()

    # As Serve has it, the root path is in the path.
    prefix: str = request.param
    guard = guarded(app, [SecretStr("key-1"), SecretStr(KEY)], limits(LIMIT), nullcontext)
    return TestClient(guard, root_path=prefix, base_url=f"http://test{prefix}")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def password(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()}


@pytest.mark.parametrize("path", ["/graph", "/graph/stream"])
def test_a_page_takes_a_key_as_the_password_that_browsers_ask_for(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert client.get(path, headers=password(KEY)).status_code == 200
    assert client.get(path, headers=bearer(KEY)).status_code == 200
    assert client.get(path, headers=password("wrong")).status_code == 401
    assert client.get(path, headers={"Authorization": "Basic not base64"}).status_code == 401


def test_nothing_else_takes_a_password(client: TestClient) -> None:
    """Browsers send it with whatever another site makes them ask."""
    assert client.get("/metrics", headers=password(KEY)).status_code == 401
    assert client.post("/graph", headers=password(KEY)).status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/health/more", "/health/", "/no/such"])
def test_every_route_wants_a_key(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.get(path, headers=bearer(KEY)).status_code != 401


def test_health_wants_none(client: TestClient) -> None:
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "header", ["Bearer key-3", "Bearer ", "Bearer key-1 ", KEY, f"Basic {KEY}", "Bearer key-1,key-2"]
)
def test_a_wrong_key_is_none(client: TestClient, header: str) -> None:
    assert client.get("/metrics", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize("key", ["key-1", KEY])
def test_each_key_is_good(client: TestClient, key: str) -> None:
    assert client.get("/metrics", headers=bearer(key)).json() == "fine"


def test_only_a_preflight_may_ask_for_options_without_a_key(client: TestClient) -> None:
    assert client.options("/metrics").status_code == 401
    assert client.options("/metrics", headers={"Access-Control-Request-Method": "GET"}).status_code != 401


def test_a_socket_wants_a_key(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/live"):
        pass
    with client.websocket_connect("/live", headers=bearer(KEY)):
        pass


@pytest.mark.parametrize(
    ("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (10 * LIMIT, 413)], ids=["all", "one more", "many more"]
)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in pieces"])
def test_a_body_has_a_largest_size(client: TestClient, size: int, status: int, announced: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"x" * 100 for _ in range(size // 100))
        yield b"x" * (size % 100)

    answer = client.post("/echo", content=b"x" * size if announced else pieces(), headers=bearer(KEY))
    assert answer.status_code == status
    assert str(LIMIT) in answer.text


def test_a_key_is_checked_before_a_body_is_read(client: TestClient) -> None:
    assert client.post("/echo", content=b"x" * 10 * LIMIT).status_code == 401


def test_without_keys_everybody_may_ask() -> None:
    app = FastAPI()
    assert TestClient(guarded(app, [], limits(LIMIT), nullcontext)).get("/openapi.json").status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"prompt": ["a"] * 2048}, 200, id="as many prompts as one may send"),
        pytest.param({"prompt": ["a"] * 2049}, 400, id="one more prompt"),
        pytest.param({"prompt": [1] * 5000}, 200, id="one prompt of many tokens"),
        pytest.param({"input": ["a"] * 2049}, 400, id="one more text to embed"),
        pytest.param({"structured_outputs": {"choice": ["a"]}}, 200, id="structured outputs"),
        pytest.param({"structured_outputs": "x"}, 400, id="structured outputs that are no object"),
        pytest.param([1], 200, id="no object, which the application refuses itself"),
    ],
)
def test_what_the_application_would_choke_on_does_not_get_there(body: object, status: int) -> None:
    app = FastAPI()

    @app.post("/")
    async def take(request: Request) -> int:
        return len(await request.body())

    client = TestClient(guarded(app, [], limits(2**20), nullcontext))
    answer = client.post("/", json=body)
    assert answer.status_code == status
    assert status != 200 or answer.json() == len(answer.request.content)


def test_broken_and_deep_json_is_left_to_the_application() -> None:
    app = FastAPI()

    @app.post("/")
    async def take(request: Request) -> str:
        return "taken"

    client = TestClient(guarded(app, [], limits(2**20), nullcontext))
    for body in (b"{", b"[" * 100_000, b'{"n": ' + b"9" * 10_000 + b"}", b"\xff"):
        assert client.post("/", content=body, headers={"Content-Type": "application/json"}).json() == "taken"

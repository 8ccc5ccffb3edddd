"""Which requests are counted, on an application that is instrumented as vLLM instruments its own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import SecretStr
from starlette.middleware.cors import CORSMiddleware
from starlette.testclient import TestClient
from vllm.entrypoints.launchers.app import build_app
from vllm.v1.metrics.prometheus import get_prometheus_registry

from ascend_serve.api.admission import guarded
from ascend_serve.api.http_metrics import HttpMetrics
from ascend_serve.api.open_streams import OpenStreams
from ascend_serve.api.openai_app import server_arguments
from ascend_serve.api.request_limits import RequestLimits
from ascend_serve.config.schema import LimitsConfig
from ascend_serve.errors import EngineError
from ascend_serve.replica.gate import Gate

LIMIT = 1000
KEY = "key"


@dataclass
class Engine:
    """Stands in for the supervisor: the gate asks it for these alone."""

    is_serving: bool = True
    retry_after: int = 12
    recovering_since: float | None = None
    streams: OpenStreams = field(default_factory=OpenStreams)


class Served:
    """An application behind guards and gate.

    Args:
        prefix: Of its routes, as Serve has it.
    """

    def __init__(self, prefix: str = "") -> None:
        self.engine = Engine()
        self.registry = CollectorRegistry()
        self.app = FastAPI()
        self.app.add_api_route("/items/{name}", lambda name: name, methods=["GET", "POST"])
        self.app.add_api_route("/broken", self._broken)
        self.app.add_api_route("/health", lambda: "well")
        Instrumentator(excluded_handlers=["/health"], registry=self.registry).instrument(self.app)
        self.app.add_middleware(CORSMiddleware)
        self.app.middleware_stack = self.app.build_middleware_stack()
        metrics = HttpMetrics(self.app)
        limits = RequestLimits(LIMIT, LimitsConfig(), 4096)
        whole = metrics.around(guarded(Gate(self.app, self.engine), [SecretStr(KEY)], limits, nullcontext))  # type: ignore[arg-type]
        self.client = TestClient(
            whole, root_path=prefix, base_url=f"http://test{prefix}", raise_server_exceptions=False
        )

    def counted(self) -> dict[tuple[str, str, str], float]:
        """Requests by method, handler and status."""
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        return {
            (sample.labels["method"], sample.labels["handler"], sample.labels["status"]): sample.value
            for sample in samples
            if sample.name == "http_requests_total"
        }

    async def _broken(self) -> None:
        raise RuntimeError("a bug")


def get(path: str, key: str = KEY) -> dict[str, Any]:
    return {"method": "GET", "url": path, "headers": {"Authorization": f"Bearer {key}"}}


def post(path: str, size: int) -> dict[str, Any]:
    return {**get(path), "method": "POST", "content": b"x" * size}


@pytest.mark.parametrize("prefix", ["", "/demo"], ids=["at the root", "below a prefix"])
@pytest.mark.parametrize(
    ("sent", "is_serving", "counted"),
    [
        pytest.param(get("/items/a"), True, ("GET", "/items/{name}", "2xx"), id="answered"),
        pytest.param(get("/nowhere"), True, ("GET", "none", "4xx"), id="no such route"),
        pytest.param(get("/broken"), True, ("GET", "/broken", "5xx"), id="a bug"),
        pytest.param(get("/items/a", key="wrong"), True, ("GET", "/items/{name}", "4xx"), id="no key"),
        pytest.param(post("/items/a", LIMIT + 1), True, ("POST", "/items/{name}", "4xx"), id="too large"),
        pytest.param(get("/items/a"), False, ("GET", "/items/{name}", "5xx"), id="no engine"),
        pytest.param(get("/health"), True, None, id="health, which vLLM leaves out"),
    ],
)
def test_every_request_is_counted_once(
    prefix: str, sent: dict[str, Any], is_serving: bool, counted: tuple[str, str, str] | None
) -> None:
    served = Served(prefix)
    served.engine.is_serving = is_serving
    served.client.request(**sent)
    assert served.counted() == ({} if counted is None else {counted: 1.0})


def test_what_reaches_the_application_directly_is_not_counted() -> None:
    served = Served()
    assert TestClient(served.app).get("/items/a").status_code == 200
    assert served.counted() == {}


def test_an_application_that_counts_nothing_is_refused() -> None:
    app = FastAPI()
    app.middleware_stack = app.build_middleware_stack()
    with pytest.raises(EngineError, match="does not count"):
        HttpMetrics(app)


def test_vllms_own_application_counts() -> None:
    app = build_app(server_arguments({"model": "m"}), ("generate",))
    client = TestClient(HttpMetrics(app).around(app))
    assert client.get("/no/such").status_code == 404
    labels = {"method": "GET", "handler": "none", "status": "4xx"}
    assert get_prometheus_registry().get_sample_value("http_requests_total", labels) == 1

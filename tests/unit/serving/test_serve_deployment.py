"""What a Serve that does not come up is answered with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from ray import serve
from ray.exceptions import RayActorError
from ray.serve._private.common import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, DeploymentStatusOverview, ServeStatus

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.serve_options import DEPLOYMENT
from ascend_serve.errors import ClusterError
from ascend_serve.planning import plan_deployment
from ascend_serve.serving import serve_deployment
from ascend_serve.serving.haproxy_config import DETOUR, UNAVAILABLE
from ascend_serve.serving.serve_deployment import ServeDeployment
from tests.patience import PATIENCE_SECONDS

CONFIG = AscendServeConfig.model_validate({"model": {"path": "demo"}, "emulated": {"npus": 1}})


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        pytest.param(TimeoutError("HTTP proxies not available after 60s."), "try again", id="too slow"),
        pytest.param(RayActorError(error_msg="killed by `ray.kill`"), "try again", id="killed by Serve"),
        pytest.param(
            TimeoutError("HAProxy crashed: [NOTICE] (7) : of a version\n[ALERT] (7) : cannot bind socket"),
            "listens on serving.port 8000",
            id="its port is taken",
        ),
    ],
)
def test_a_proxy_that_does_not_start_has_an_answer(
    error: Exception, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: object) -> None:
        raise error

    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications={}, proxies={}))
    monkeypatch.setattr(serve, "run_many", lambda *_, **__: None)
    monkeypatch.setattr(serve_deployment, "begin_serve", lambda **_: ())
    monkeypatch.setattr(serve_deployment, "wait_for_proxies", wait)
    monkeypatch.setattr(serve_deployment, "node_offers", lambda: (NodeOffer("node-0", "node-0", 1),))
    with pytest.raises(ClusterError, match="did not start its HTTP proxy") as caught:
        ServeDeployment(CONFIG, plan_deployment(CONFIG), started=0.0, local=True).deploy()
    assert str(error).splitlines()[0].partition("[")[0] in str(caught.value)
    assert remedy in caught.value.remedy


def test_replicas_serve_on_while_a_new_controller_asks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve's application is no longer ``RUNNING`` meanwhile."""

    def status(**states: int) -> ServeStatus:
        replicas = {ReplicaState[name]: count for name, count in states.items()}
        trigger = DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
        deployment = DeploymentStatusOverview(DeploymentStatus.UPDATING, trigger, replicas, "")
        application = ApplicationStatusOverview(ApplicationStatus.DEPLOYING, "", 0.0, {DEPLOYMENT: deployment})
        return ServeStatus(applications={CONFIG.model.name: application})

    deployment = ServeDeployment(CONFIG, plan_deployment(CONFIG), started=0.0)
    monkeypatch.setattr(serve, "status", lambda: status(RECOVERING=1))
    assert deployment.check()
    monkeypatch.setattr(serve, "status", lambda: status(STARTING=1))
    assert not deployment.check()


@pytest.mark.parametrize(
    ("status", "headers", "body", "answers"),
    [
        pytest.param(200, {}, "", True, id="a replica"),
        pytest.param(503, {}, '{"recovering_since": 1.0}', True, id="a replica whose engine is replaced"),
        pytest.param(503, {}, UNAVAILABLE, False, id="HAProxy, which reaches no replica"),
        pytest.param(200, {DETOUR: "1"}, "", False, id="Serve's proxy"),
        pytest.param(404, {}, "", False, id="another application"),
    ],
)
def test_who_answers_at_the_address(
    status: int, headers: dict[str, str], body: str, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_deployment, "_REACH_SECONDS", PATIENCE_SECONDS if answers else 0.3)
    with server(status, headers, body) as port:
        config = CONFIG.model_copy(update={"serving": CONFIG.serving.model_copy(update={"port": port})})
        assert ServeDeployment(config, plan_deployment(config), started=0.0).answers_http() is answers


@contextmanager
def server(status: int, headers: dict[str, str], body: str) -> Iterator[int]:
    """A server that says one thing.

    Yields:
        Its port.
    """

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        try:
            yield serving.server_port
        finally:
            serving.shutdown()

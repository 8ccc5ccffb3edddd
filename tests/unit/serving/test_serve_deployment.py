"""What a Serve that does not come up is answered with."""

from __future__ import annotations

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
from ascend_serve.serving.serve_deployment import ServeDeployment

CONFIG = AscendServeConfig.model_validate({"model": {"path": "demo"}, "emulated": {"npus": 1}})


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TimeoutError("HTTP proxies not available after 60s."), id="too slow"),
        pytest.param(RayActorError(error_msg="killed by `ray.kill`"), id="killed by Serve"),
    ],
)
def test_a_proxy_that_does_not_start_has_an_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        raise error

    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications={}, proxies={}))
    monkeypatch.setattr(serve, "start", start)
    monkeypatch.setattr(
        "ascend_serve.serving.serve_deployment.node_offers", lambda: (NodeOffer("node-0", "node-0", 1),)
    )
    with pytest.raises(ClusterError, match="did not start its HTTP proxy") as caught:
        ServeDeployment(CONFIG, plan_deployment(CONFIG), started=0.0).deploy()
    assert "try again" in caught.value.remedy


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

"""Which deployments of an application are engines of ours, and what they are called."""

from __future__ import annotations

import pytest
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
    ReplicaState,
)

from ascend_serve.serving.cluster_status import _engines, _shown


def application(*deployments: str) -> ApplicationStatusOverview:
    """What Ray Serve tells of an application that runs."""
    overview = DeploymentStatusOverview(
        status=DeploymentStatus.HEALTHY,
        status_trigger=DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED,
        replica_states={ReplicaState.RUNNING: 1},
        message="",
    )
    return ApplicationStatusOverview(
        status=ApplicationStatus.RUNNING,
        message="",
        last_deployed_time_s=0.0,
        deployments=dict.fromkeys(deployments, overview),
    )


@pytest.mark.parametrize(
    ("deployments", "names"),
    [
        pytest.param(("OpenAIReplica",), ["app"], id="one engine"),
        pytest.param(("MyApp", "OpenAIReplica"), ["app"], id="in an application of somebody else's"),
        pytest.param(
            ("Both", "OpenAIReplica", "OpenAIReplica_1", "OpenAIReplica_2"),
            ["app", "app/OpenAIReplica_1", "app/OpenAIReplica_2"],
            id="several engines",
        ),
        pytest.param(("LLMServer", "OpenAIReplica_x", "MyOpenAIReplica"), [], id="none of ours"),
        pytest.param((), [], id="it is being built"),
    ],
)
def test_our_deployments_are_found_by_their_names(deployments: tuple[str, ...], names: list[str]) -> None:
    assert [_shown("app", name) for name in _engines(application(*deployments))] == names

"""Options of Ray Serve in a configuration, held against the installed Serve."""

from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.config.combinations import check, ineffective_options
from ascend_serve.config.schema import AscendServeConfig, ModelConfig, ServingConfig
from ascend_serve.errors import ConfigError

ROUND_ROBIN = "ray.serve.experimental.round_robin_router:RoundRobinRouter"


def configuration(**serving: Any) -> AscendServeConfig:
    return AscendServeConfig(model=ModelConfig(path="m"), serving=ServingConfig(**serving))


@pytest.mark.parametrize(
    "serving",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"deployment": {"num_replicas": 2, "max_surge_percent": 50}}, id="fixed replicas"),
        pytest.param({"deployment": {"num_replicas": "auto"}}, id="auto"),
        pytest.param(
            {
                "deployment": {
                    "autoscaling_config": {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8}
                }
            },
            id="autoscaling",
        ),
        pytest.param({"deployment": {"request_router_config": {"request_router_class": ROUND_ROBIN}}}, id="a router"),
        pytest.param({"deployment": {"graceful_shutdown_timeout_s": 600}}, id="a longer drain"),
        pytest.param({"http_options": {"request_timeout_s": 60, "keep_alive_timeout_s": 90}}, id="HTTP options"),
        pytest.param({"http_options": {"ssl_keyfile": "k", "ssl_certfile": "c"}}, id="TLS"),
    ],
)
def test_takes_what_serve_takes(serving: dict[str, Any]) -> None:
    check(configuration(**serving))


@pytest.mark.parametrize(
    ("section", "options", "problem", "remedy"),
    [
        ("deployment", {"nun_replicas": 2}, "deployment.nun_replicas: not an option", "deployment.num_replicas?"),
        (
            "deployment",
            {"autoscaling_config": {"min_replica": 1}},
            "deployment.autoscaling_config.min_replica: not an option of Ray Serve's AutoscalingConfig",
            "autoscaling_config.min_replicas?",
        ),
        ("deployment", {"xyzzy": 1}, "deployment.xyzzy: not an option", "num_replicas"),
        ("deployment", {"max_surge_percent": 101}, "deployment.max_surge_percent: Input", "documentation"),
        ("deployment", {"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}}, "greater than or equal", ""),
        ("deployment", {"autoscaling_config": 3}, "deployment.autoscaling_config: Input", ""),
        ("deployment", {"num_replicas": 2, "autoscaling_config": {}}, "num_replicas is not allowed", ""),
        ("deployment", {"request_router_config": {"request_router_class": "no.such:R"}}, "No module named 'no'", ""),
        ("deployment", {"placement_group_bundles": []}, "placement_group_bundles: decided", "section parallel"),
        ("deployment", {"ray_actor_options": {}}, "ray_actor_options: decided", "section parallel"),
        ("deployment", {"user_config": {}}, "user_config: decided", "new version"),
        ("http_options", {"port": 1}, "http_options.port: decided", "serving.port"),
        ("http_options", {"request_timeout": 1}, "request_timeout: not an option", "http_options.request_timeout_s?"),
        ("http_options", {"ssl_keyfile": "k"}, "TLS without serving.http_options.ssl_certfile", "or no ssl_ option"),
        ("http_options", {"ssl_certfile": "c"}, "TLS without serving.http_options.ssl_keyfile", "or no ssl_ option"),
        ("http_options", {"ssl_keyfile_password": "x"}, "ssl_keyfile_password: decided", "no password"),
    ],
)
def test_names_what_serve_would_not_take_or_would_ignore(
    section: str, options: dict[str, Any], problem: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(configuration(**{section: options}))
    assert problem in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("prefix", ["demo", "/demo/", "", "/a b", "/{x}", "//"])
def test_a_route_prefix_is_a_path(prefix: str) -> None:
    with pytest.raises(ValueError, match="begins with /"):
        ServingConfig(route_prefix=prefix)


def test_a_ca_that_serve_does_not_use_gives_a_warning() -> None:
    options = {"ssl_keyfile": "k", "ssl_certfile": "c", "ssl_ca_certs": "ca"}
    assert "ssl_ca_certs has no effect" in ineffective_options(configuration(http_options=options))[0]

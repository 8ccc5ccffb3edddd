"""What Ray Serve is started with, and where HAProxy cannot run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.api.stream_journal import SECRET_VARIABLE
from ascend_serve.config.schema import ServingConfig
from ascend_serve.serving import ingress
from ascend_serve.serving.haproxy import CERTIFICATE, COMMAND, HOST, KEY
from ascend_serve.serving.ingress import ENABLED, HAProxyHere, start_options, warn_if_other, warn_of_router

HERE = HAProxyHere("/bin/haproxy")
PROXY = {"controller_options": {"runtime_env": {"env_vars": {ENABLED: "0"}}}}
"""Whatever the environment of the nodes says."""


def environment(options: dict[str, Any]) -> dict[str, str]:
    variables: dict[str, str] = options["controller_options"]["runtime_env"]["env_vars"]
    return variables


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[HAProxyHere]:
    """What the nodes of a cluster say that is given."""
    said = [HERE]
    monkeypatch.setattr(ingress, "_ask_nodes", lambda: said)
    return said


def test_on_a_cluster_of_this_machine_replicas_are_for_haproxy_alone() -> None:
    options = start_options(ServingConfig(host="0.0.0.0", port=8123), local=True)
    assert options["http_options"] == {"host": "127.0.0.1", "port": 8123}
    assert environment(options)[HOST] == "0.0.0.0"
    assert environment(options)[ENABLED] == "1"
    assert Path(environment(options)["RAY_SERVE_HAPROXY_BINARY_PATH"]).name == COMMAND


def test_two_deployments_of_one_machine_share_no_port() -> None:
    ports = {environment(start_options(ServingConfig(), local=True))["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]}
    assert "8500" not in ports


def test_files_of_tls_reach_haproxy() -> None:
    tls = {"ssl_certfile": "/tls/cert.pem", "ssl_keyfile": "/tls/key.pem"}
    options = start_options(ServingConfig(http_options=tls), local=True)
    assert options["http_options"] == {**tls, "host": "127.0.0.1", "port": 8000}
    assert {name: environment(options)[name] for name in (CERTIFICATE, KEY)} == {
        CERTIFICATE: "/tls/cert.pem",
        KEY: "/tls/key.pem",
    }


def test_the_users_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_NBTHREAD", "7")
    assert environment(start_options(ServingConfig(), local=True))["RAY_SERVE_HAPROXY_NBTHREAD"] == "7"


KEPT = ServingConfig.model_validate({"recovery": {"streams": "replica"}})


@pytest.mark.parametrize("local", [True, False])
def test_streams_are_kept_by_a_secret_of_the_deployment(local: bool, nodes: list[HAProxyHere]) -> None:
    assert SECRET_VARIABLE not in environment(start_options(ServingConfig(), local=local))
    secrets = {environment(start_options(KEPT, local=local))[SECRET_VARIABLE] for _ in range(2)}
    assert len(secrets) == 2
    assert all(len(secret) >= 32 for secret in secrets)


def test_streams_of_requests_that_fail_with_their_engine_are_not_kept(nodes: list[HAProxyHere]) -> None:
    serving = ServingConfig.model_validate({"recovery": {"streams": "replica", "requests": "fail"}})
    assert SECRET_VARIABLE not in environment(start_options(serving, local=True))


def test_a_secret_of_the_users_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "of the nodes")
    assert environment(start_options(KEPT, local=True))[SECRET_VARIABLE] == "of the nodes"


def test_without_haproxy_streams_are_not_kept_and_the_one_line_says_so(
    nodes: list[HAProxyHere], caplog: pytest.LogCaptureFixture
) -> None:
    nodes[:] = [HAProxyHere("", "no binary")]
    assert SECRET_VARIABLE not in environment(start_options(KEPT, local=False))
    (line,) = caplog.messages
    assert "no binary; streams end with their replica (serving.recovery.streams)" in line


@pytest.mark.parametrize("local", [True, False])
def test_the_proxy_needs_nothing(local: bool, caplog: pytest.LogCaptureFixture) -> None:
    options = start_options(ServingConfig.model_validate({"ingress": "proxy", "host": "0.0.0.0"}), local=local)
    assert options == {"http_options": {"host": "0.0.0.0", "port": 8000}, **PROXY}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(None, f"{COMMAND} is not installed in ", id="not installed"),
        pytest.param("#!/bin/sh\necho first >&2; echo no such library >&2; exit 127\n", "no such library", id="broken"),
        pytest.param("#!/no/such/python\n", "No such file or directory", id="another machine's"),
    ],
)
def test_where_haproxy_cannot_run_the_proxy_answers_and_one_line_says_why(
    script: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if script is not None:
        (tmp_path / COMMAND).write_text(script)
        (tmp_path / COMMAND).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        options = start_options(ServingConfig(), local=True)
    assert options == {"http_options": {"host": "127.0.0.1", "port": 8000}, **PROXY}
    (line,) = caplog.messages
    assert line.startswith("Ray Serve's proxy answers instead of HAProxy (serving.ingress): ")
    assert reason in line


@pytest.mark.parametrize(
    ("host", "said", "reason"),
    [
        pytest.param("127.0.0.1", [HERE], "", id="one node"),
        pytest.param("0.0.0.0", [HERE, HERE], "", id="two nodes, all interfaces"),
        pytest.param("127.0.0.1", [HERE, HERE], "does not reach the replicas on another", id="two nodes, loopback"),
        pytest.param("192.0.2.1", [HERE, HERE], "serving.host=0.0.0.0", id="two nodes, one address"),
        pytest.param("0.0.0.0", [HERE, HAProxyHere("", "no binary")], "no binary", id="a node that cannot"),
        pytest.param("0.0.0.0", [HERE, HAProxyHere("/other")], "different paths: /bin/haproxy, /other", id="elsewhere"),
    ],
)
def test_on_a_given_cluster_all_nodes_must_do(
    nodes: list[HAProxyHere], host: str, said: list[HAProxyHere], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="ascend_serve.serving.ingress")
    nodes[:] = said
    options = start_options(ServingConfig(host=host), local=False)
    assert options["http_options"] == {"host": host, "port": 8000}
    assert environment(options)[ENABLED] == ("0" if reason else "1")
    assert HOST not in environment(options)
    assert [reason in line for line in caplog.messages] == [True] * bool(reason)


@pytest.mark.parametrize(
    ("said", "actors", "line"),
    [
        pytest.param({}, ["SERVE_PROXY_ACTOR-abc"], "", id="nobody asked"),
        pytest.param({"ingress": "proxy"}, ["SERVE_PROXY_ACTOR-abc"], "", id="the same"),
        pytest.param({"ingress": "haproxy"}, ["SERVE_PROXY_ACTOR-abc"], "ingress=haproxy has no effect", id="proxy"),
        pytest.param(
            {"ingress": "proxy"},
            ["SERVE_PROXY_ACTOR-abc", "SERVE_PROXY_ACTOR-fallback-abc"],
            "ingress=proxy has no effect: Ray Serve runs on this cluster already, with haproxy",
            id="HAProxy",
        ),
    ],
)
def test_a_serve_that_runs_keeps_its_ingress_and_says_so(
    said: dict[str, str],
    actors: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    named = [{"name": name, "namespace": "serve"} for name in actors]
    monkeypatch.setattr("ray.util.list_named_actors", lambda all_namespaces: named)
    warn_if_other(ServingConfig.model_validate(said))
    assert [line in message for message in caplog.messages] == [True] * bool(line)


@pytest.mark.parametrize(
    ("deployment", "actors", "warns"),
    [
        pytest.param({}, ["SERVE_PROXY_ACTOR-fallback-abc"], False, id="none chosen"),
        pytest.param({"request_router_config": {}}, ["SERVE_PROXY_ACTOR-abc"], False, id="Serve's proxy"),
        pytest.param({"request_router_config": {}}, ["SERVE_PROXY_ACTOR-fallback-abc"], True, id="HAProxy"),
    ],
)
def test_a_router_that_haproxy_does_not_ask_has_no_effect(
    deployment: dict[str, Any],
    actors: list[str],
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("ray.util.list_named_actors", lambda all_namespaces: [{"name": name} for name in actors])
    warn_of_router(ServingConfig(deployment=deployment))
    assert ["request_router_config has no effect" in line for line in caplog.messages] == [True] * warns

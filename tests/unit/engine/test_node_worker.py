"""The environment that a worker gives itself before anything reads it."""

from __future__ import annotations

import inspect
import re

import psutil
import pytest

from ascend_serve.engine.spare_worker import SpareWorkerProc
from ascend_serve.errors import ClusterError
from ascend_serve.node.environment import PER_NODE_VARIABLES

node_worker = pytest.importorskip("ascend_serve.engine.node_worker", reason="vLLM is not installed")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PER_NODE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_names_this_nodes_own_interface_and_address() -> None:
    env = node_worker.environment_here()
    carried = [entry.address for entry in psutil.net_if_addrs()[env["GLOO_SOCKET_IFNAME"]]]
    assert env["HCCL_IF_IP"] in carried
    assert env["TP_SOCKET_IFNAME"] == env["GLOO_SOCKET_IFNAME"]


def test_what_is_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    env = node_worker.environment_here()
    assert env["GLOO_SOCKET_IFNAME"] == "lo"
    assert "HCCL_IF_IP" in env


def test_an_interface_that_is_not_here_is_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    monkeypatch.setenv("HCCL_IF_IP", "203.0.113.9")
    with pytest.raises(ClusterError) as refused:
        node_worker.environment_here()
    (problem, *more) = refused.value.problem.splitlines()
    assert not more
    assert "GLOO_SOCKET_IFNAME=nosuch0" in problem
    assert ", ".join(sorted(psutil.net_if_addrs())) in problem
    assert "HCCL_IF_IP=203.0.113.9" in problem


def test_no_node_gets_anothers_variables() -> None:
    """vLLM copies the variables of the engine core's process to all workers, but for those of this set."""
    node_worker.use_node_workers()
    assert node_worker.vllm_executor.RayWorkerProc is node_worker.NodeWorkerProc
    assert set(PER_NODE_VARIABLES) <= node_worker.vllm_executor.WORKER_SPECIFIC_ENV_VARS


def test_a_process_that_became_a_worker_has_all_that_vllms_executor_calls() -> None:
    called = set(re.findall(r"\.actor\.(\w+)\.remote", inspect.getsource(node_worker.vllm_executor)))
    assert "initialize_worker" in called
    assert called <= set(dir(SpareWorkerProc))


class Worker:
    """Stands where vLLM's worker is, and says what it was asked."""

    def __getattr__(self, name: str) -> object:
        return lambda *args, **options: (name, args, options)


def test_it_passes_them_on_as_they_are() -> None:
    spare = SpareWorkerProc.__new__(SpareWorkerProc)
    vars(spare)["_worker"] = Worker()
    passed = {
        name: getattr(spare, name)
        for name, method in vars(SpareWorkerProc).items()
        if inspect.isfunction(method) and name not in ("__init__", "wait", "hold", "take_over")
    }
    assert len(passed) == 6
    for name, call in passed.items():
        assert call() in ((name, (), {}), None)

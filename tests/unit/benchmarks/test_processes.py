"""Which process of a system does what, and what it spent between two looks."""

from __future__ import annotations

import pytest

from benchmarks.serving.processes import MachineTime, Usage, machine_time, role, spent

RAY = "/venv/lib/python3.11/site-packages/ray"
FORKED = "python -B -c from multiprocessing.forkserver import main; main(63, 66, ['vllm.v1.engine.core'])"


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        ("ray::NodeWorkerProc.run", "worker"),
        ("ray::RayWorkerProc.run", "worker"),
        ("VLLM::Worker_TP0", "worker"),
        ("VLLM::EngineCore", "engine core"),
        (FORKED, "engine core"),
        ("ray::ServeReplica:demo:OpenAIReplica", "replica"),
        ("ray::ProxyActor", "proxy"),
        ("ray::HAProxyManager", "HAProxy"),
        ("/venv/bin/haproxy -W -f /tmp/haproxy.cfg", "HAProxy"),
        ("ray::ServeController", "controller"),
        (f"{RAY}/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/raylet", "raylet and GCS"),
        (f"{RAY}/core/src/ray/gcs/gcs_server --log_dir=/tmp/logs", "raylet and GCS"),
        (f"python {RAY}/dashboard/dashboard.py --gcs-address=192.0.2.1:1", "Ray's agents"),
        (f"python -u {RAY}/_private/log_monitor.py --session-dir=/tmp/raylet", "Ray's agents"),
        ("ray::RuntimeEnvAgent", "Ray's agents"),
        ("ray::CaptureDriver", "capture driver"),
        ("python -m vllm.entrypoints.cli.main serve /models/demo --port=1", "API server"),
        ("python -m ascend_serve.cli.main serve demo.yaml", "command"),
        ("python -B -c from multiprocessing.resource_tracker import main;main(63)", "other"),
    ],
)
def test_role(command_line: str, expected: str) -> None:
    assert role(command_line) == expected


def test_only_what_was_spent_between_two_looks_counts() -> None:
    old, gone, new, reused = (1, 10.0), (2, 10.0), (3, 20.0), (2, 30.0)
    before = Usage({old: 5.0, gone: 7.0}, {old: "worker", gone: "worker"})
    after = Usage({old: 6.5, new: 0.5, reused: 0.25}, {old: "worker", new: "worker", reused: "replica"})
    assert spent(before, after) == {"worker": 2.0, "replica": 0.25}


def test_machine_time_tells_steal_from_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert machine_time("cpu  100 100 100 1000 100 0 0 50 7 7\ncpu0 1") == MachineTime(3.0, 0.5, 14.5)

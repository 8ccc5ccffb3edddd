"""A tensor-parallel group over two hosts whose interfaces have different names, each in a network namespace."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import Host, two_hosts
from tests.e2e.ray_head import BIN, ROOT, clean_environment, started
from tests.integration.engines import Scenario, run

pytestmark = pytest.mark.slow

LAUNCH = ROOT / "launch"
OPTIONS = ("--num-cpus=8", "--block")


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, as those of Unix sockets are limited."""
    folder = Path(tempfile.mkdtemp(prefix="as-hosts-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with contextlib.ExitStack() as stack:
        try:
            both = stack.enter_context(two_hosts())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"making network namespaces takes root and iproute2: {error}")
        yield both


@pytest.mark.parametrize(
    "join",
    [
        pytest.param((LAUNCH / "worker.sh", "10.77.0.1:6379"), id="launch/worker.sh"),
        pytest.param(
            (BIN / "ray", "start", "--address=10.77.0.1:6379", "--num-gpus=0", '--resources={"NPU": 1}'),
            id="ray start, with nothing set",
        ),
    ],
)
def test_each_rank_has_its_own_hosts_interface_and_address(
    hosts: tuple[Host, Host], home: Path, join: tuple[object, ...]
) -> None:
    head, worker = hosts
    env = clean_environment(home) | {"OMP_NUM_THREADS": "1"}
    with_npu = env | {"ASCEND_RT_VISIBLE_DEVICES": "0"}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((home / "log").open("w"))
        head_command = head.command(LAUNCH / "head.sh", f"--temp-dir={home / 'ray'}", *OPTIONS)
        stack.enter_context(started(head_command, with_npu, log))
        _wait_for(head, env)
        joining = with_npu if join[0] == LAUNCH / "worker.sh" else env
        stack.enter_context(started(worker.command(*join, *OPTIONS), joining, log))
        scenario = Scenario("two hosts", (), (1, 3))
        on_cluster = env | {"RAY_ADDRESS": f"{head.address}:6379"}
        (result,) = run([scenario], through=head.command(), env=on_cluster)
    assert result.error == ""
    assert [len(tokens) for tokens in result.tokens["3"]] == [12] * 3
    assert len(set(result.nodes)) == 2
    for host, variables in zip(hosts, result.environments, strict=True):
        assert variables["HCCL_IF_IP"] == host.address
        assert variables["GLOO_SOCKET_IFNAME"] == variables["TP_SOCKET_IFNAME"] == host.interface


def _wait_for(head: Host, env: dict[str, str]) -> None:
    """Wait until the head's control service answers."""
    status = head.command(BIN / "ray", "status", f"--address={head.address}:6379")
    for _ in range(60):
        if subprocess.run(status, env=env, capture_output=True, check=False).returncode == 0:
            return
    raise TimeoutError("the head did not start")

"""Two replicas, one of which is lost under clients that wait for whole answers: none notices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.command import Command
from tests.e2e.load import Load, Verdict
from tests.patience import wait_until

pytestmark = pytest.mark.slow

OVERRIDES = (
    "parallel.tensor_parallel_size=1",
    # In bfloat16 batches of different sizes round differently.
    "vllm.dtype=float32",
    "graph.capture_sizes=[1, 4]",
    "serving.deployment.num_replicas=2",
    # Answers are under way when something is lost.
    "emulated.device_time.fixed=20",
)
CLIENTS = 4


@pytest.fixture(scope="module")
def server(start: Callable[..., Command]) -> Iterator[Command]:
    yield from start(*OVERRIDES).serving()


@pytest.fixture(scope="module")
def load(server: Command) -> Load:
    return Load(f"http://127.0.0.1:{server.port}", CLIENTS, streams=0)


def test_whole_answers_outlive_their_replica(server: Command, load: Load) -> None:
    replicas = [process for process in server.processes() if process.name().startswith("ray::ServeRepli")]
    assert len(replicas) == 2
    with load.running():
        time.sleep(2)
        asked = len(load.replies)
        replicas[0].kill()
        assert wait_until(lambda: len(load.replies) > asked + 10 * CLIENTS)
    assert set(load.verdicts()) == {Verdict.RIGHT}

"""A server that one client asks for too much, and another for a little at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.e2e.command import Command
from tests.e2e.greedy import TABLE, Greed, ask
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

STEADY, GREEDY = "steady-client", "greedy-client"
ANSWERS = 20


@pytest.fixture(scope="module")
def server(start: Callable[..., Command], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{STEADY}\n{GREEDY}\n")
    one = ("parallel.tensor_parallel_size=1", "emulated.npus=1", "vllm.max_model_len=1024", "vllm.max_num_seqs=16")
    yield from start(*one, f"serving.api_key_file={keys}").serving()


@pytest.fixture(scope="module")
def steady(server: Command) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {STEADY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def right(steady: httpx.Client) -> str:
    """What the steady client gets when nobody else asks."""
    return ask(steady).text


@pytest.mark.parametrize("greed", TABLE, ids=str)
def test_another_client_gets_the_same_answers(greed: Greed, server: Command, steady: httpx.Client, right: str) -> None:
    with greed.running(str(steady.base_url), {"Authorization": f"Bearer {GREEDY}"}):
        texts = {ask(steady).text for _ in range(ANSWERS)}
    assert texts == {right}

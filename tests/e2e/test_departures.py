"""Many clients that go before they have their answer, on each way into the deployment."""

from __future__ import annotations

import signal
from collections.abc import Callable

import httpx
import pytest

from ascend_serve.config.schema import Ingress
from tests.e2e.command import Command
from tests.e2e.departures import DEPARTURES, TOKENS
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

CLIENTS = 50


@pytest.mark.parametrize("ingress", list(Ingress), ids=str)
def test_each_of_fifty_that_go_ends_its_request(start: Callable[..., Command], ingress: Ingress) -> None:
    command = start(f"serving.ingress={ingress.value}")
    command.wait_for("curl ")
    with httpx.Client(base_url=f"http://127.0.0.1:{command.port}", timeout=PATIENCE_SECONDS) as http:
        tokens = [DEPARTURES[number % len(DEPARTURES)].tokens(http, {}) for number in range(CLIENTS)]
    print(f"{ingress.value}: tokens of {CLIENTS} requests of {TOKENS}: {sorted(tokens)}")
    assert max(tokens) < TOKENS
    assert command.end(signal.SIGINT) == 130

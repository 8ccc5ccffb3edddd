"""Which clusters of this machine are on the loopback interface alone."""

from __future__ import annotations

import pytest
from ray._private import services

from ascend_serve.cluster.connect import _is_on_loopback

OURS, STARTED = "127.0.0.1:40000", "192.0.2.2:6379"


@pytest.mark.parametrize(
    ("running", "address", "expected"),
    [
        pytest.param({OURS}, "auto", True, id="the one that runs"),
        pytest.param({OURS}, OURS, True, id="the one that runs, by its address"),
        pytest.param({STARTED}, "auto", False, id="one of ray start"),
        pytest.param({STARTED}, "127.0.0.1:6379", False, id="one of ray start, by a name of this machine"),
        pytest.param({OURS, STARTED}, "auto", False, id="both, of which Ray takes the one of ray start"),
        pytest.param({OURS, STARTED}, OURS, True, id="both, by the address"),
        pytest.param(set(), "auto", False, id="none"),
    ],
)
def test_a_cluster_is_known_by_what_runs(
    running: set[str], address: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: frozenset(running))
    assert _is_on_loopback(address) is expected

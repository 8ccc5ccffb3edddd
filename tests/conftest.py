"""What all tests share: nothing phones home, and no test depends on the shell it was started from."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from importlib.util import find_spec

import pytest

# Before any test imports vLLM or Ray: both read these at import.
os.environ.update(
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    RAY_USAGE_STATS_ENABLED="0",
    VLLM_NO_USAGE_STATS="1",
)

# Tests that need torch_npu on the simulated CANN run in an environment of their own: `make test-npu`.
collect_ignore = [] if find_spec("torch_npu") else ["npu"]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Where vLLM is not installed (`make test-planner`), skip the modules that import it or what comes with it."""
    report = yield
    missing = re.search(r"No module named '(?!ascend_serve|tests)([\w.]+)'", str(report.longrepr))
    if report.failed and missing and find_spec("vllm") is None:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {missing[1]} is not installed, nor is vLLM")
    return report


@pytest.fixture(autouse=True)
def no_outer_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a Ray cluster that the developer is connected to out of the tests."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

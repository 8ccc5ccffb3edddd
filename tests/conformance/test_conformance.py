"""The emulated NPU keeps the promises of torch_npu's ``NPUGraph``, or the difference is written down."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.emulated.device import current_device, initialize_device
from tests.conformance import backends
from tests.conformance.cases import CASES, Case
from tests.conformance.expected import DIFFERENCES, TORCH_NPU

ROOT = Path(__file__).parents[2]


@pytest.fixture
def emulated() -> Iterator[backends.Backend]:
    before = current_device()
    yield backends.emulated()
    initialize_device(before)


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=CASES.keys())
def test_the_emulated_npu(name: str, case: Case, emulated: backends.Backend) -> None:
    difference = DIFFERENCES.get(name)
    assert case(emulated) == (difference.emulated if difference else TORCH_NPU[name])


def test_every_difference_is_one() -> None:
    assert [name for name, difference in DIFFERENCES.items() if difference.emulated == TORCH_NPU[name]] == []


def test_every_difference_is_in_the_documents() -> None:
    rows = "".join(f"| {name} | {difference.reason} |\n" for name, difference in DIFFERENCES.items())
    assert rows in (ROOT / "docs/simulator.md").read_text(encoding="utf-8")


if find_spec("torch_npu"):  # `make test-npu`; elsewhere there is no torch_npu to ask
    from tests.npu import forked

    def observed(name: str) -> Any:
        return CASES[name](backends.torch_npu())

    @pytest.mark.parametrize("name", CASES)
    def test_torch_npu(name: str) -> None:
        assert forked.call(observed, name) == TORCH_NPU[name]

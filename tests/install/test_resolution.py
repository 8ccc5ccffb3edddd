"""What the set-up of an NPU node installs goes together: for each row, processor and Python, without a network.

The metadata was recorded from the package index (``record.py``), where each package has a wheel for each of them.
"""

from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.install.packages import OVERRIDES, SOURCE_ONLY, lock_of, locked
from ascend_serve.install.steps import Node, PackageSource, steps_of
from ascend_serve.releases import ARCHITECTURES, RELEASES, Release
from tests.install.record import packages
from tests.install.resolution import PYTHONS, VENDORS_INDEX, Pins, recorded, resolve


@pytest.fixture(scope="module")
def record() -> Any:
    return recorded()


@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row.vllm_ascend)
@pytest.mark.parametrize("processor", ARCHITECTURES)
@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_asked_for_is_installed(row: Release, processor: str, python: str, record: Any) -> None:
    found = resolve(record, row, processor, python)
    assert found.conflicts == []
    assert found.overridden == set(OVERRIDES), "an override that nobody needs any more has to go"
    assert found.unused == set(), "make the lock anew"


@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row.vllm_ascend)
@pytest.mark.parametrize("processor", ARCHITECTURES)
def test_each_package_has_a_wheel_or_a_step_of_its_own(row: Release, processor: str, record: Any) -> None:
    pins = Pins.of(row, processor)
    without = {name for name in pins.versions if pins.key(name) not in record["packages"][processor]}
    steps = [set(step.packages) for step in steps_of(row, Node(processor, "910B3"), PackageSource())]
    assert without == {*SOURCE_ONLY, *VENDORS_INDEX}
    assert all({name} in steps for name in without)


def test_a_conflict_is_seen(record: Any) -> None:
    upstream = {**record["upstream"]["0.30.0rc2"], "vllm-ascend": ["transformers<5"]}
    changed = {**record, "upstream": {"0.30.0rc2": upstream}}
    assert [line for line in resolve(changed, RELEASES[-1], "aarch64", "3.12").conflicts if "transformers" in line] == [
        f"vllm-ascend asks for transformers<5, installed is {RELEASES[-1].transformers}"
    ]


@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row.vllm_ascend)
def test_the_lock_is_for_every_processor(row: Release) -> None:
    text = lock_of(row).read_text(encoding="utf-8")
    assert ";" not in text, "a marker would mean that one lock does not do"
    assert not [name for name in locked(row) if name.startswith("nvidia-")]


@pytest.mark.slow
@pytest.mark.parametrize("processor", ARCHITECTURES)
def test_the_index_still_has_the_packages_of_the_newest_row(processor: str) -> None:
    """Needs a package index, and minutes; fails without one."""
    pins = Pins.of(RELEASES[-1], processor).on_index
    assert len(packages(processor, PYTHONS[-1], pins)) == len(pins) - len(SOURCE_ONLY)

from __future__ import annotations

import dataclasses

import pytest

from ascend_serve import releases as release


@pytest.mark.parametrize(
    ("version", "minimum", "reached"),
    [
        ("25.5.1", "25.5.1", True),
        ("26.0.rc2", "25.5.1", True),
        ("25.5.0", "25.5.1", False),
        ("25.3.rc1", "25.5.1", False),
        ("24.1.rc3.7", "25.5.1", False),
        ("2.9.1", "2.60", False),
        ("2.60.0", "2.60", True),
        ("", "2.60", False),
    ],
)
def test_compares_leading_numbers(version: str, minimum: str, reached: bool) -> None:
    assert release.at_least(version, minimum) is reached


@pytest.mark.parametrize(
    ("version", "prefix", "belongs"),
    [("9.1.0", "9.1", True), ("9.1.RC1", "9.1", True), ("9.10.0", "9.1", False), ("9.0.1", "9.1", False)],
)
def test_compares_a_release_line(version: str, prefix: str, belongs: bool) -> None:
    assert release.starts_with(version, prefix) is belongs


def test_finds_the_row_of_a_build_with_a_local_version() -> None:
    row = release.release_of("0.23.0.post1+gitabc")
    assert row is not None
    assert row.packages == {"vllm": "0.23.0", "torch": "2.10.0", "torch_npu": "2.10.0.post4"}


def test_knows_no_row_of_another_release() -> None:
    assert release.release_of("0.11.0") is None


@pytest.mark.parametrize(
    ("version", "row"),
    [
        pytest.param("", release.DEFAULT.vllm_ascend, id="none is installed"),
        pytest.param("0.26.0rc1", "0.26.0rc1", id="in the matrix"),
        pytest.param("0.28.0rc1", "0.26.0rc1", id="between two rows"),
        pytest.param("0.31.0", "0.30.0rc2", id="newer than all"),
        pytest.param("0.11.0", release.DEFAULT.vllm_ascend, id="older than all"),
    ],
)
def test_another_version_is_taken_for_the_row_before_it(version: str, row: str) -> None:
    assert release.nearest(version).vllm_ascend == row


def test_the_default_is_no_candidate() -> None:
    assert release.DEFAULT.vllm_ascend == "0.23.0.post1"


@pytest.mark.parametrize("row", release.RELEASES, ids=lambda row: row.vllm_ascend)
def test_every_figure_of_a_row_has_a_source(row: release.Release) -> None:
    figures = {field.name for field in dataclasses.fields(row)} - {"vllm_ascend", "sources"}
    assert set(row.sources) == figures
    assert all(row.sources.values())


@pytest.mark.parametrize(
    ("python", "supported"), [("3.10.1", True), ("3.12.9", True), ("3.13.0", False), ("3.9", False)]
)
def test_a_release_supports_some_pythons(python: str, supported: bool) -> None:
    assert release.DEFAULT.supports_python(python) is supported

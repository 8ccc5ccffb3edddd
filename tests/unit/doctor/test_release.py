from __future__ import annotations

import pytest

from ascend_serve.doctor import release


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

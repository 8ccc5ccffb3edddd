"""The release matrix in the documents and in pyproject.toml is the one of ``ascend_serve/releases.py``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from ascend_serve.releases import DEFAULT, MINIMUM_RAY, RELEASES, Release
from tests.documents import ROOT

PAGE = ROOT / "docs" / "installation.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def row(release: Release) -> str:
    """The line of a release, as the page has it."""
    cells = (
        *(release.vllm_ascend, release.vllm, release.torch, release.torch_npu, release.triton_ascend),
        *(release.transformers, release.xlite, release.cann, release.hdk, release.pythons),
        *(" to ".join(release.image_ray), ", or ".join(release.runners)),
    )
    return f"| {' | '.join(cells)} |"


def test_the_page_has_the_matrix() -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d", line)]
    assert lines == [row(release) for release in RELEASES]


def versions_of(requirements: list[str]) -> Iterator[tuple[str, str]]:
    """Name and version of each requirement, without marker."""
    for requirement in requirements:
        name, version = re.split("[=>]=", requirement.partition(";")[0].strip())
        yield name.partition("[")[0].replace("-", "_"), version


@pytest.mark.parametrize(("package", "version"), list(versions_of(PROJECT["optional-dependencies"]["npu"])))
def test_the_extra_has_the_versions_of_the_default_release(package: str, version: str) -> None:
    assert getattr(DEFAULT, package) == version


def test_the_project_needs_the_ray_of_the_matrix() -> None:
    assert dict(versions_of(PROJECT["dependencies"]))["ray"] == MINIMUM_RAY

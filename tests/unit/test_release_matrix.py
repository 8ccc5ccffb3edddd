"""The release matrix in the documents and in pyproject.toml is the one of ``ascend_serve/releases.py``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from ascend_serve.install.packages import locked
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


def test_the_image_is_that_of_the_default_release_with_the_ray_of_the_locks() -> None:
    image = (ROOT / "launch" / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG VLLM_ASCEND_TAG=v{DEFAULT.vllm_ascend}\n" in image
    assert {f"ARG RAY_VERSION={locked(row)['ray']}\n" in image for row in RELEASES} == {True}


def test_what_the_image_changes_is_the_same_in_every_lock() -> None:
    changed = ("ray", "fastapi", "starlette", "prometheus-fastapi-instrumentator")
    assert len({tuple(locked(row)[name] for name in changed) for row in RELEASES}) == 1
    assert f'changed="{" ".join(changed)}"' in (ROOT / "launch" / "Dockerfile").read_text(encoding="utf-8")


def test_the_project_needs_the_ray_of_the_matrix() -> None:
    assert dict(versions_of(PROJECT["dependencies"]))["ray"] == MINIMUM_RAY

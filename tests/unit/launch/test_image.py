"""The container file: what it installs is pinned and hashed, and nothing in the image runs as root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from launch.missing_requirements import missing, plain

ROOT = Path(__file__).parents[3]
IMAGE = (ROOT / "launch" / "Dockerfile").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements" / "image.lock").read_text(encoding="utf-8")
REQUIREMENTS = list(missing(LOCK, (), ()))
PINS = {plain(line.partition("==")[0].partition("[")[0]): line.split()[0].partition("==")[2] for line in REQUIREMENTS}


def test_every_package_has_a_version_and_hashes() -> None:
    assert len(REQUIREMENTS) > 50
    assert [
        line for line in REQUIREMENTS if not re.match(r"[\w.\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)
    ] == []


def test_versions_are_those_of_the_lock_of_the_default_release() -> None:
    lines = (ROOT / "requirements" / "npu-0.23.0.lock").read_text(encoding="utf-8").splitlines()
    locked = {
        plain(line.partition("==")[0]): line.partition("==")[2].partition(" ")[0] for line in lines if "==" in line
    }
    both = PINS.keys() & locked.keys()
    assert len(both) > 50
    assert {name: PINS[name] for name in both} == {name: locked[name] for name in both}


def test_all_that_the_project_asks_for_is_there() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(PINS[plain(requirement.name)]), requirement


def test_the_last_user_is_not_root_and_packages_come_with_hashes() -> None:
    users = re.findall(r"^USER (.*)$", IMAGE, re.MULTILINE)
    assert users == ["${USER_ID}:${GROUP_ID}"]
    assert re.search(r"^ARG USER_ID=1000$", IMAGE, re.MULTILINE)
    installs = re.findall(r"pip install (.*)", IMAGE)
    assert all("--require-hashes" in line or "--no-index" in line or "xlite==" in line for line in installs)


TEXT = """\
# a comment
Typing_Extensions==4.1 \\
    --hash=sha256:aa
ray[serve]==2.60.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
"""


@pytest.mark.parametrize(
    ("changed", "present", "told"),
    [
        pytest.param((), (), ["typing", "ray"], id="nothing is there"),
        pytest.param((), ("typing-extensions", "ray"), [], id="all is there"),
        pytest.param(("ray",), ("typing-extensions", "ray"), ["ray"], id="one is changed"),
    ],
)
def test_only_what_is_missing_or_changed_is_installed(
    changed: tuple[str, ...], present: tuple[str, ...], told: list[str]
) -> None:
    lines = list(missing(TEXT, changed, present))
    assert [line.lower().partition("_")[0].partition("[")[0] for line in lines] == told
    assert all("--hash=" in line and "\n" not in line for line in lines)

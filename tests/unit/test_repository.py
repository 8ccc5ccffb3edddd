"""What readers of the repository and its services find: workflows, forms, hooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from ascend_serve import __version__
from tests.documents import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]


def read(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def commands(workflow: dict[Any, Any]) -> list[str]:
    """What the steps of a workflow run."""
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_a_workflow_runs_what_continuous_integration_runs() -> None:
    assert ".ci/run" in commands(read(GITHUB / "workflows" / "ci.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_write_nothing_and_ends(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    targets = re.findall(r"^make ([a-z-]+)", "\n".join(commands(workflow)), re.MULTILINE)
    assert set(targets) <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_a_form_needs(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    names = [part["id"] for part in form["body"]]
    assert len(names) == len(set(names))
    assert all(part["attributes"]["label"] for part in form["body"])


def test_who_reports_a_problem_is_asked_for_what_shows_it() -> None:
    text = (GITHUB / "ISSUE_TEMPLATE" / "problem.yml").read_text(encoding="utf-8")
    for part in ("ascend-serve doctor --json", "~/.cache/ascend_serve/events", "ascend-serve --version"):
        assert part in text


def test_the_links_of_the_template_of_changes_lead_somewhere() -> None:
    template = GITHUB / "pull_request_template.md"
    for target in re.findall(r"\]\(([^)#:]+)\)", template.read_text(encoding="utf-8")):
        assert (template.parent / target).exists(), target


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        pytest.param("x" * 72 + "\n\n" + "y" * 100, False, id="a long line in the body"),
        pytest.param("x" * 73, True, id="a long subject"),
    ],
)
def test_a_hook_refuses_a_subject_that_is_too_long(message: str, refused: bool) -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    found = re.search(hooks["subject"]["entry"], message, re.MULTILINE)
    assert bool(found) is refused


def test_the_version_is_that_of_the_changelog() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [Version(heading) for heading in headings if heading != "Unreleased"]
    assert released == sorted(released, reverse=True)
    version = Version(__version__)
    if headings[0] == "Unreleased":
        assert version.is_devrelease
        assert version > released[0]
    else:
        assert version == released[0]

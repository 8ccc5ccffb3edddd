"""Every command line and every program of the documents is run by a test, or cannot be: ``tests/documented.txt``."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from ascend_serve.config import load
from ascend_serve.serving.builder import BuildArgs
from tests.checkout import Checkout, checkout
from tests.documents import ROOT, Entry, blocks, entries, problems, text_of

ENTRIES = list(entries())
TESTED = [entry for entry in ENTRIES if entry.test]
HERE = [entry for entry in ENTRIES if entry.is_run_here]
PROGRAMS = {entry.line.partition(" ")[0] for entry in ENTRIES}
OF_THE_READER = {"configs/model.yaml"}


def ids(entry: Entry) -> str:
    return entry.line


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return checkout(tmp_path_factory.mktemp("tree"))


def test_the_table_has_what_the_documents_have() -> None:
    assert problems() == [], "tests/documents.py tells how to add a line to tests/documented.txt"


def test_no_command_stands_in_a_block_of_text() -> None:
    texts = [line for block in blocks() if block.language == "text" for line in block.text.splitlines()]
    assert [line for line in texts if line.partition(" ")[0] in PROGRAMS] == []


@pytest.mark.parametrize("entry", TESTED, ids=ids)
def test_the_test_is_there_and_has_the_line(entry: Entry) -> None:
    path, _, name = entry.test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (function,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    strings = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)}
    assert entry.replaced or entry.line in strings


@pytest.mark.parametrize("entry", HERE, ids=ids)
def test_runs_as_written(entry: Entry, tree: Checkout) -> None:
    languages = {block.name: block.language for block in blocks()}
    match languages.get(entry.line):
        case "python":
            tree.python(text_of(entry.line))
        case "yaml":
            (tree.folder / "deployment.yaml").write_text(text_of(entry.line))
            tree.run("ascend-serve config deployment.yaml")
        case _:
            tree.run(entry.line)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.ci], ids=ids)
def test_continuous_integration_runs_it(entry: Entry) -> None:
    assert entry.ci in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.ci or entry.cannot], ids=ids)
def test_what_a_line_names_is_there(entry: Entry) -> None:
    files = set(re.findall(r"(?:^|[ =])((?:launch|configs)/[\w./-]+|\.ci/\w+)", entry.line)) - OF_THE_READER
    assert [file for file in files if not (ROOT / file).exists()] == []
    targets = set(re.findall(r"\bmake ([a-z-]+)", entry.line))
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r"\.\[(\w+)\]", entry.line)) <= project["optional-dependencies"].keys()


def test_the_file_for_serve_deploy() -> None:
    text = text_of("docs/operations.md: Applications by Serve's own tools (yaml)")
    applications = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    for application in applications:
        assert application.import_path == "ascend_serve.serving.builder:build"
        load(ROOT / "configs" / "demo.yaml", BuildArgs.model_validate(application.args).overrides())
        assert {deployment.name for deployment in application.deployments} <= {"OpenAIReplica"}
    assert len(applications) == 2

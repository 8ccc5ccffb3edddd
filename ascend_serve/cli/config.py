"""``ascend-serve config``: the merged, validated configuration, or the reference of all keys."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ascend_serve.cli.arguments import OverrideArguments, described
from ascend_serve.cli.before_start import check_plan
from ascend_serve.cli.output import print_warning
from ascend_serve.config import LoadedConfig
from ascend_serve.config.key_names import dotted
from ascend_serve.config.reference import reference as reference_page
from ascend_serve.config.shipped import shipped, summary


class Format(StrEnum):
    """How the configuration is printed."""

    YAML = "yaml"
    JSON = "json"


def config(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)] = None,
    overrides: OverrideArguments = None,
    *,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.YAML,
    origins: Annotated[bool, typer.Option(help="Print where each key that is not a default comes from.")] = False,
    reference: Annotated[bool, typer.Option(help="Print all keys with types, defaults and meaning.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print the configurations that are shipped.")] = False,
) -> None:
    """Show the merged and validated configuration, the reference of all keys, or the names of shipped ones."""
    if listed:
        typer.echo(_shipped(), nl=False)
        return
    if reference:
        typer.echo(reference_page(), nl=False)
        return
    if config is None:
        raise typer.BadParameter("give a configuration, --list or --reference", param_hint="CONFIG")
    loaded = described(config, overrides).load_with_sources()
    check_plan(loaded.config)
    for warning in loaded.warnings:
        print_warning(warning)
    typer.echo(_origins(loaded) if origins else _dump(loaded.config.model_dump(mode="json"), form), nl=False)


def _shipped() -> str:
    files = shipped()
    width = max(map(len, files))
    return "".join(f"{name:{width}}  {summary(file)}\n" for name, file in files.items())


def _dump(values: dict[str, Any], form: Format) -> str:
    if form is Format.JSON:
        return json.dumps(values, indent=2) + "\n"
    return yaml.safe_dump(values, sort_keys=False)


def _origins(loaded: LoadedConfig) -> str:
    """One line for each key that was set; sections and elements of lists have none of their own."""
    origins = loaded.sources.origins
    keys = [key for key in origins if not any(isinstance(part, int) for part in key)]
    sections = {key[:length] for key in keys for length in range(len(key))}
    return "".join(f"{dotted(key)}: {origins[key]}\n" for key in keys if key not in sections)

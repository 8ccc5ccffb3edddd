"""Arguments that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML file, for example configs/demo.yaml.", show_default=False)
]

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Dotted keys that win over the file, for example graph.mode=FULL.",
        show_default=False,
    ),
]

ModelsAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE|CONFIG",
        help="Dotted keys that win over the file before them; further files serve further models.",
        show_default=False,
    ),
]


def models(config: Path, words: Sequence[str]) -> list[tuple[Path, list[str]]]:
    """The configuration files of a command line, each with the overrides that follow it."""
    found: list[tuple[Path, list[str]]] = [(config, [])]
    for word in words:
        if "=" not in word and word.endswith((".yaml", ".yml")):
            found.append((Path(word), []))
        else:
            found[-1][1].append(word)
    return found

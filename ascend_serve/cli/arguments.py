"""Arguments that several commands take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from ascend_serve.config import AscendServeConfig, LoadedConfig, load, load_with_sources
from ascend_serve.config.layers import Source
from ascend_serve.config.shipped import is_model, shipped
from ascend_serve.errors import ConfigError


def _shipped_names(incomplete: str) -> list[str]:
    """For the completion of shells; files are completed by the shell itself where no name fits."""
    return [name for name in shipped() if name.startswith(incomplete)]


ConfigPath = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        autocompletion=_shipped_names,
        help="YAML file, folder of a model, or name of a shipped configuration, for example demo; - is standard input.",
        show_default=False,
    ),
]

OverrideArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE|CONFIG",
        help="Dotted keys that win over the file, for example graph.mode=FULL, or ~KEY to remove one; further files "
        "are merged over the first.",
        show_default=False,
    ),
]

ModelsAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE|+CONFIG|CONFIG",
        help="Dotted keys that win over the file before them, or ~KEY to remove one; +CONFIG is merged over the file "
        "before it; further files serve further models.",
        show_default=False,
    ),
]

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of all processes.")]

Dashboard = Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard with a local cluster.")]

_STDIN = "-"
_SUFFIXES = (".yaml", ".yml")


@dataclass(slots=True)
class Described:
    """What a command line says about one model.

    Attributes:
        files: Configurations, merged in order; ``-`` is standard input.
        overrides: What wins over all of them.
    """

    files: list[str]
    overrides: list[str] = field(default_factory=list)

    def load(self) -> AscendServeConfig:
        """Load the configuration; see `ascend_serve.config.load`."""
        return load(self._sources(), self.overrides)

    def load_with_sources(self) -> LoadedConfig:
        """As `load`, and tells where each key comes from."""
        return load_with_sources(self._sources(), self.overrides)

    def _sources(self) -> list[Source]:
        if self.files.count(_STDIN) > 1:
            raise ConfigError("-: standard input can be read once", "Name it once, and files beside it.")
        return [sys.stdin if name == _STDIN else name for name in self.files]


def described(config: Path, words: Sequence[str] | None) -> Described:
    """The one model of a command line: files are merged in order, and overrides win over all of them."""
    found = Described([str(config)])
    for word in words or ():
        if _is_config(word) or _is_merged(word):
            found.files.append(word.removeprefix("+"))
        else:
            found.overrides.append(word)
    return found


def models(config: Path, words: Sequence[str]) -> list[Described]:
    """The models of a command line: each begins with a file, and has the ``+`` files and overrides that follow it."""
    found = [Described([str(config)])]
    for word in words:
        if _is_merged(word):
            found[-1].files.append(word[1:])
        elif _is_config(word):
            found.append(Described([word]))
        else:
            found[-1].overrides.append(word)
    return found


def load_models(config: Path, words: Sequence[str] | None) -> list[AscendServeConfig]:
    """Load the models of a command line.

    Raises:
        ConfigError: One of them cannot be loaded; if it is not a whole configuration, with how files are merged.
    """
    first, *further = models(config, words or ())
    return [first.load(), *(_further(each, first) for each in further)]


def _further(model: Described, first: Described) -> AscendServeConfig:
    try:
        return model.load()
    except ConfigError as error:
        if "required, but not set" not in error.problem:
            raise
        name = model.files[0]
        hint = f"A further file is a further model; to merge {name} over {first.files[0]}, write +{name}."
        raise ConfigError(error.problem, f"{error.remedy} {hint}") from error


def _is_config(word: str) -> bool:
    named = word.endswith(_SUFFIXES) or word in shipped() or is_model(Path(word))
    return word == _STDIN or ("=" not in word and named)


def _is_merged(word: str) -> bool:
    return word.startswith("+") and "=" not in word

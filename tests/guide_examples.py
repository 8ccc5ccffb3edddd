"""The examples of ``docs/graph_modes.md``: what they ask of vLLM, and our overrides beside it."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "graph_modes.md"
ROW = re.compile(r"^\| ([^|`]+) \| `(LLM\(.*?\)|vllm serve .*?)` \| `(.*?)` \|$", re.MULTILINE)
FLAGS = {"--enforce-eager": True}


@dataclass(frozen=True)
class Example:
    """One row of the page.

    Attributes:
        name: The first cell.
        asks: Engine arguments that the guide's form sets, without the model.
        overrides: Ours over a configuration that only names the model.
    """

    name: str
    asks: dict[str, Any]
    overrides: tuple[str, ...]


def examples() -> Iterator[Example]:
    """All rows of the page."""
    for name, theirs, ours in ROW.findall(PAGE.read_text(encoding="utf-8")):
        asks = _offline(theirs) if theirs.startswith("LLM(") else _online(theirs)
        overrides = _call(ours) if ours.startswith("Engine") else shlex.split(ours)[3:]
        assert name.endswith("offline") == theirs.startswith("LLM(") == ours.startswith("Engine"), name
        yield Example(name, asks, tuple(overrides))


def _offline(code: str) -> dict[str, Any]:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    return {key.arg: ast.literal_eval(key.value) for key in call.keywords if key.arg and key.arg != "model"}


def _online(command: str) -> dict[str, Any]:
    words = iter(shlex.split(command)[3:])
    asks = {}
    for flag in words:
        value = FLAGS.get(flag)
        asks[flag.removeprefix("--").replace("-", "_")] = json.loads(next(words)) if value is None else value
    return asks


def _call(code: str) -> list[str]:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    _, *overrides = (ast.literal_eval(argument) for argument in call.args)
    return list(overrides[0]) if overrides else []

"""Keys: the dotted names of the schema, and the nearest to a name that does not exist."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ascend_serve.config.schema import AscendServeConfig


def dotted(path: typing.Sequence[str | int]) -> str:
    """Join the parts of a key as an override spells them: ``("faults", 0, "rank")`` is ``faults[0].rank``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def fields(model: type[BaseModel] = AscendServeConfig, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All keys below ``model`` with their fields, sections before their keys; elements of lists are ``[]``."""
    for name, field in model.model_fields.items():
        key = f"{above}.{name}" if above else name
        yield key, field
        section = section_of(field)
        if section is not None:
            repeated = "" if field.annotation is section else "[]"
            yield from fields(section, f"{key}{repeated}")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, alone or as the elements of a list or an optional value."""
    candidates = [field.annotation, *typing.get_args(field.annotation)]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)


def nearest(key: str) -> str | None:
    """The valid key that is most likely meant.

    First a key of that very name in another section (``tensor_parallel_size`` is
    ``parallel.tensor_parallel_size``), then the one with the most similar full name, then the one with the most similar
    last part.
    """
    known = [name for name, _ in fields()]
    by_last_part = {_last_part(name): name for name in reversed(known)}
    last_part = _last_part(key)
    if last_part in by_last_part:
        return by_last_part[last_part]
    by_name = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    by_part = difflib.get_close_matches(last_part, by_last_part, n=1, cutoff=0.75)
    return by_name[0] if by_name else by_last_part[by_part[0]] if by_part else None


def instead(wrong: str, known: typing.Sequence[str], above: str = "") -> str:
    """What to write for a name that is none of ``known``, which are below ``above``: the nearest, else any of them."""
    match = difflib.get_close_matches(wrong, known, n=1)
    return f"Did you mean {above}{match[0]}?" if match else f"It has {', '.join(known)}."


def _last_part(key: str) -> str:
    return key.rpartition(".")[2]

"""The keys of the schema: their dotted names, and the nearest one to a name that does not exist."""

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
    """The valid key that is spelled most like ``key``, by its full name first, then by its last part alone.

    The second look finds a right name in the wrong section: ``tensor_parallel_size`` is
    ``parallel.tensor_parallel_size``.
    """
    known = [name for name, _ in fields()]
    by_name = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if by_name:
        return by_name[0]
    by_last_part = {name.rpartition(".")[2]: name for name in reversed(known)}
    matches = difflib.get_close_matches(key.rpartition(".")[2], by_last_part, n=1, cutoff=0.75)
    return by_last_part[matches[0]] if matches else None

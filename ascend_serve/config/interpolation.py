"""Interpolation: ``${key}`` over the schema's defaults, ``${oc.env:NAME}``, and what becomes of text from there."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from ascend_serve.config import yaml_text
from ascend_serve.config.draft import Draft
from ascend_serve.config.key_names import dotted, nearest, section_of
from ascend_serve.config.layers import INTERPOLATION, first_line, plain
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.targets import KeyPath, field_at, may_be_text, wants_text
from ascend_serve.errors import Problem

_NO_VARIABLE = re.compile(r"Environment variable '(?P<name>.*?)' not found")
_NO_KEY = re.compile(r"Interpolation key '(?P<key>.*?)' not found")
_LEFT_OPEN = "???"


class Resolution:
    """A draft with its interpolations resolved.

    Attributes:
        values: Plain dictionaries, lists and scalars.
        origins: Those of the draft, with the interpolation where there was one.
        problems: Problem and remedy of each interpolation that failed.
    """

    def __init__(self, draft: Draft) -> None:
        self.origins = dict(draft.origins)
        self.problems: list[Problem] = []
        everything = OmegaConf.merge(defaults(), draft.values)
        self.values: dict[str, Any] = self._below(draft.values, everything, ())

    def _below(self, said: Any, node: Any, path: KeyPath) -> Any:
        """What is below ``path``: what was said there, and OmegaConf's node with the defaults beside it."""
        if isinstance(said, dict):
            return {key: self._at(item, node, (*path, key)) for key, item in said.items()}
        return [self._at(item, node, (*path, index)) for index, item in enumerate(said)]

    def _at(self, said: Any, above: Any, path: KeyPath) -> Any:
        if isinstance(said, dict | list):
            return self._below(said, above[path[-1]], path)
        origin = self.origins.get(path, "")
        if said == _LEFT_OPEN:
            self.problems.append((f"{dotted(path)}: required, but left open as ??? ({origin})", f"Set {dotted(path)}."))
            return None
        if not OmegaConf.is_interpolation(above, path[-1]):
            return yaml_text.as_word(said, path)
        try:
            value = above[path[-1]]
        except OmegaConfBaseException as error:
            self.problems.append(_explain(path, said, origin, error))
            return None
        self.origins[path] = origin if said in origin else f"{origin}, {said}"
        return _converted(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value, path)


def defaults(model: type[BaseModel] = AscendServeConfig) -> dict[str, Any]:
    """The schema's defaults as plain values; what is required has none."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        section = section_of(field)
        if field.annotation is section and section is not None:
            values[name] = defaults(section)
        elif not field.is_required():
            values[name] = plain(field.get_default(call_default_factory=True))
    return values


def _converted(value: Any, path: KeyPath) -> Any:
    """What the schema makes of a value that an interpolation gave: text is read as YAML where no text is wanted."""
    if isinstance(value, int | float) and wants_text(path):
        return json.dumps(value)
    if not isinstance(value, str) or may_be_text(path):
        return plain(value)
    try:
        return yaml_text.parse(value, path)
    except (yaml.YAMLError, OmegaConfBaseException):
        return value


def _explain(path: KeyPath, said: str, origin: str, error: OmegaConfBaseException) -> Problem:
    name = dotted(path)
    message = first_line(error)
    if missing := _NO_VARIABLE.search(message):
        variable = missing["name"]
        field = field_at(path)
        default = field.get_default(call_default_factory=True) if field is not None else None
        example = f"${{oc.env:{variable},{'DEFAULT' if default is None or field is None else default}}}"
        return (
            f"{name}: {said}: the environment variable {variable} is not set ({origin})",
            f"Set {variable}, or give a default: {example}.",
        )
    if unknown := _NO_KEY.search(message):
        near = nearest(unknown["key"])
        meant = f"Did you mean ${{{near}}}? " if near and near != unknown["key"] else ""
        return (
            f"{name}: {said}: key {unknown['key']!r} not found ({origin})",
            f"{meant}An interpolation names a whole key, such as ${{serving.port}}.",
        )
    return f"{name}: {said}: {message} ({origin})", INTERPOLATION

"""YAML as it is written: values, with text left alone where the schema wants text, and the line of each key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from omegaconf import OmegaConf

from ascend_serve.config.targets import KeyPath, wants_text, words

_NULL = "tag:yaml.org,2002:null"


def parse(text: str, at: KeyPath = ()) -> Any:
    """Read ``text`` as the value of the key ``at``, in OmegaConf's dialect of YAML.

    YAML 1.1 makes a boolean of ``off`` and a number of ``950``. Where the schema wants text, they are what they say.

    Raises:
        yaml.YAMLError: It is no YAML.
        OmegaConfBaseException: An interpolation in it is malformed.
    """
    with _no_deeper_than_python():
        container = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
        assert isinstance(container, dict)
        return _as_written(container["value"], _compose(text), at)


def override_value(text: str, at: KeyPath) -> Any:
    """As `parse`, for one line that a user types: where the schema wants text, any line will do."""
    if not wants_text(at):
        return parse(text, at)
    try:
        node = _compose(text)
    except yaml.YAMLError:
        return text
    if node is None or node.tag == _NULL:
        return None
    return node.value if isinstance(node, yaml.ScalarNode) and node.style is not None else text.strip()


def as_word(value: Any, at: KeyPath) -> Any:
    """The word that YAML takes for ``value``, where the schema wants one of some words: ``off`` for ``False``."""
    found = [word for word in words(at) if not isinstance(value, str) and repr(yaml.safe_load(word)) == repr(value)]
    return found[0] if len(found) == 1 else value


def lines(text: str) -> dict[KeyPath, int]:
    """The line of each key and of each element of a list, from 1 on."""
    with _no_deeper_than_python():
        return dict(_lines(_compose(text), ()))


@contextmanager
def _no_deeper_than_python() -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise yaml.YAMLError("lists or mappings are nested too deeply") from error


def _compose(text: str) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return node


def _as_written(value: Any, node: yaml.Node | None, path: KeyPath) -> Any:
    """Put the text of plain scalars back into ``value`` where the schema wants text; keys are text everywhere."""
    if isinstance(value, dict):
        named = {str(key.value): below for key, below in node.value} if isinstance(node, yaml.MappingNode) else {}
        return {str(key): _as_written(below, named.get(str(key)), (*path, str(key))) for key, below in value.items()}
    if isinstance(value, list):
        items = node.value if isinstance(node, yaml.SequenceNode) else [None] * len(value)
        return [_as_written(below, items[index], (*path, index)) for index, below in enumerate(value)]
    plain = isinstance(node, yaml.ScalarNode) and node.style is None and node.tag != _NULL
    return node.value if node is not None and plain and wants_text(path) else value


def _lines(node: yaml.Node | None, above: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*above, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*above, index), value.start_mark.line + 1
            yield from _lines(value, (*above, index))

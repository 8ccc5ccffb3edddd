"""Traces of requests: arrival and lengths, from CSV or JSON lines, with the columns of those that are public."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

from ascend_serve.errors import ConfigError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "arrival": ("arrival", "timestamp", "arrival_time", "arrived_at", "start_time"),
    "input_tokens": (
        "input_tokens",
        "contexttokens",
        "request tokens",
        "prompt_tokens",
        "input_length",
        "num_prefill_tokens",
        "prompt_len",
        "input_len",
    ),
    "output_tokens": (
        "output_tokens",
        "generatedtokens",
        "response tokens",
        "completion_tokens",
        "output_length",
        "num_decode_tokens",
        "output_len",
    ),
}
"""Columns of a trace, and what the public traces of Azure, BurstGPT, Mooncake and Vidur and vLLM's bench call them.
Arrival is in seconds, or a date."""

MILLISECONDS = "input_length"
"""Where the tokens of the prompt are called this, arrival is in milliseconds: Mooncake's traces."""

_ASK = f"Give {', '.join(COLUMNS)} for each request, as CSV with a header or as JSON lines."


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One request of a trace: arrival in seconds, lengths in tokens."""

    arrival: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: the line it ends at, and its values by lower case name."""

    line: int
    values: Mapping[str, Any]


def read_trace(text: str, path: str) -> list[TracedRequest]:
    """The requests of a trace, in the order of their arrival.

    Args:
        text: What the file holds: CSV with a header, or a JSON object on each line.
        path: Of the file, for messages.

    Raises:
        ConfigError: It lacks a column, a value is missing or wrong, or it holds no request.
    """
    text = text.removeprefix("\ufeff")
    rows = list(_json_rows(text, path) if text.lstrip().startswith("{") else _csv_rows(text, path))
    if not rows:
        raise ConfigError(f"{path}: holds no request", _ASK)
    names = _names(rows[0].values, path)
    scale = 0.001 if names["input_tokens"] == MILLISECONDS else 1.0
    in_seconds = _is_number(rows[0].values.get(names["arrival"]))
    requests = [_request(row, names, scale, in_seconds, path) for row in rows]
    return sorted(requests, key=lambda request: request.arrival)


def _csv_rows(text: str, path: str) -> Iterator[_Row]:
    """Rows that hold something; quoted fields may have several lines, so the reader counts."""
    header = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=max(",\t;", key=header.count))
    names: list[str] = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not names:
                names = [field.strip().lower() for field in fields]
                _names(dict.fromkeys(names), path)
            else:
                yield _Row(reader.line_num, {**dict.fromkeys(names), **dict(zip(names, fields, strict=False))})
    except csv.Error as error:
        raise ConfigError(f"{path}: line {reader.line_num}: {error}", _ASK) from error


def _json_rows(text: str, path: str) -> Iterator[_Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield _Row(number, {str(name).strip().lower(): value for name, value in json.loads(line).items()})
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{path}: line {number}: not a JSON object: {error}", _ASK) from error


def _names(values: Mapping[str, Any], path: str) -> dict[str, str]:
    found = {column: next((name for name in names if name in values), "") for column, names in COLUMNS.items()}
    missing = [column for column, name in found.items() if not name]
    if missing:
        there = ", ".join(values)
        raise ConfigError(f"{path}: column {', '.join(missing)} is missing (it has {there})", _ASK)
    return found


def _request(row: _Row, names: Mapping[str, str], scale: float, in_seconds: bool, path: str) -> TracedRequest:
    given: dict[str, Any] = {column: row.values.get(name) for column, name in names.items()}
    empty = [names[column] for column, value in given.items() if value is None or not str(value).strip()]
    if empty:
        raise ConfigError(f"{path}: line {row.line}: {' and '.join(empty)} has no value", _ASK)
    if _is_number(given["arrival"]) is not in_seconds:
        first = "a number" if in_seconds else "a date"
        problem = f"arrival {given['arrival']} beside {first} on the first row"
        raise ConfigError(f"{path}: line {row.line}: {problem}", "Give numbers everywhere, or dates everywhere.")
    try:
        arrival = float(given["arrival"]) * scale if in_seconds else _seconds(str(given["arrival"]))
        lengths = [int(float(given[column])) for column in ("input_tokens", "output_tokens")]
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{path}: line {row.line}: {error}", _ASK) from error
    if not isfinite(arrival):
        raise ConfigError(f"{path}: line {row.line}: arrival {given['arrival']} is no time", _ASK)
    return TracedRequest(arrival, max(0, lengths[0]), lengths[1])


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True


def _seconds(date: str) -> float:
    return datetime.fromisoformat(date.strip()).timestamp()

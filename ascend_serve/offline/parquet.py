"""Batches in Parquet: rows as requests, and a table of their answers. Needs pyarrow, of the extra ``data``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ascend_serve.errors import ConfigError
from ascend_serve.offline.batch_lines import record_id

SUFFIX = ".parquet"

_ROWS = 1024
"""Rows that are read or written at a time."""
_OF_JSON = (str, int, float, bool)
_JSON_COLUMNS = ("body", "messages")
"""May hold JSON as text, too: tables whose rows differ in their keys have no type for them."""
_COUNTS = ("prompt_tokens", "completion_tokens")
ANSWER: Mapping[str, str] = {
    "text": "string",
    "finish_reason": "string",
    "error": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "record": "string",
}
"""The columns of an answer and their types, by pyarrow's names."""


def is_parquet(path: Path) -> bool:
    """Whether a file is in Parquet, by its name."""
    return path.suffix.lower() == SUFFIX


def check_parquet(option: str, path: Path) -> None:
    """Make sure that Parquet can be read and written.

    Args:
        option: The option that names the file, for the message.
        path: The file.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{option}: {path} is in Parquet, and pyarrow cannot be imported: {error}",
            "Install it: pip install 'ascend-serve[data]'. Or give JSON lines.",
        ) from error


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, without the columns that are null in them.

    Raises:
        ConfigError: The file is not in Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                yield from (request_of(row) for row in batch.to_pylist())
    except pyarrow.ArrowException as error:
        raise ConfigError(f"--input: {path} cannot be read as Parquet: {error}", "Write it again.") from error


def write_table(lines: Path, path: Path) -> None:
    """Make a table of a file of records: a row for each, with the whole record as JSON in the column ``record``.

    Args:
        lines: One record per line.
        path: Where the table goes.
    """
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([pyarrow.field("id", "string"), *(pyarrow.field(*column) for column in ANSWER.items())])
    with lines.open(encoding="utf-8") as file, pyarrow.parquet.ParquetWriter(path, schema) as table:
        rows: list[dict[str, Any]] = []
        for text in file:
            record = json.loads(text)
            rows.append({"id": _text(record_id(record)), **answer_of(record)})
            if len(rows) == _ROWS:
                table.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))
                rows.clear()
        table.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))


def request_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The request that a row is, without the columns that are null in it."""
    request: dict[str, Any] = _without_nulls(row)
    for name in _JSON_COLUMNS:
        if isinstance(request.get(name), str):
            try:
                request[name] = json.loads(request[name])
            except json.JSONDecodeError:
                continue
    return request


def answer_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a record of a batch."""
    response = record.get("response") or {}
    content = response.get("body", response) if "custom_id" in record else record
    choice: Mapping[str, Any] = next(iter(content.get("choices") or ()), {})
    said = (choice.get("message") or {}).get("content") if "message" in choice else choice.get("text")
    error = record.get("error") or (content.get("error") if content is not record else None)
    usage = content.get("usage") or {}
    return {
        "text": record.get("text", said),
        "finish_reason": record.get("finish_reason", choice.get("finish_reason")),
        "error": None if error is None else _text(error),
        **{name: usage.get(name) for name in _COUNTS},
        "record": json.dumps(record, ensure_ascii=False),
    }


def _without_nulls(value: Any) -> Any:
    """What a row says: columns and fields that other rows have are null in this one."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value if isinstance(value, _OF_JSON) else str(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""Batches in Parquet: rows as requests, and the table of their answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from ascend_serve.errors import ConfigError
from ascend_serve.offline import data
from ascend_serve.offline.batch import OutputFile, answer_lines, read_lines
from ascend_serve.offline.batch_lines import CHAT, COMPLETIONS
from ascend_serve.offline.offline_replica import Answer

CHATS = [{"role": "user", "content": "Hello"}]
OPENAI: dict[str, Any] = {
    "custom_id": "o",
    "method": "POST",
    "url": COMPLETIONS,
    "body": json.dumps({"prompt": "once"}),
}
ROWS: dict[str, tuple[dict[str, Any], Any, str, dict[str, Any]]] = {
    "a prompt": ({"prompt": "once", "max_tokens": 3}, 1, COMPLETIONS, {"prompt": "once", "max_tokens": 3}),
    "an id": ({"id": 7, "prompt": "once"}, 7, COMPLETIONS, {"prompt": "once"}),
    "messages": ({"messages": CHATS}, 1, CHAT, {"messages": CHATS}),
    "messages as JSON": ({"messages": json.dumps(CHATS)}, 1, CHAT, {"messages": CHATS}),
    "OpenAI's line": (OPENAI, "o", COMPLETIONS, {"prompt": "once"}),
    "a key that is null": ({"prompt": "once", "seed": None}, 1, COMPLETIONS, {"prompt": "once"}),
}


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "requests.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(("row", "identifier", "url", "body"), ROWS.values(), ids=ROWS)
def test_a_row_is_a_request(tmp_path: Path, row: dict[str, Any], identifier: Any, url: str, body: Any) -> None:
    (line,) = read_lines(parquet(tmp_path, [row]))
    assert (line.id, line.path, line.body, line.error) == (identifier, url, body, "")


def test_rows_that_differ_in_their_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "once"}, {"messages": CHATS}, {"prompt": "a", "messages": CHATS}]
    rows = [{"prompt": None, "messages": None, **row} for row in rows]
    lines = list(read_lines(parquet(tmp_path, rows)))
    assert [line.path for line in lines[:2]] == [COMPLETIONS, CHAT]
    assert lines[2].error == 'line 3 needs either "prompt" or "messages"'


class Echo:
    """Answers each prompt with itself, and refuses those that are empty."""

    def answers(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[Answer]:
        for request in list(requests):
            prompt = request["body"]["prompt"]
            usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
            choice = {"index": 0, "text": prompt, "finish_reason": "stop"}
            refusal = {"error": {"message": "empty"}}
            yield Answer.of(*((200, {"choices": [choice], "usage": usage}) if prompt else (400, refusal)))


ANSWERS: list[dict[str, Any]] = [
    {"text": "once", "finish_reason": "stop", "error": None, "prompt_tokens": 4, "completion_tokens": 1},
    {"text": None, "finish_reason": None, "error": "empty", "prompt_tokens": None, "completion_tokens": None},
]


def test_a_table_of_the_answers_is_written_when_it_is_complete(tmp_path: Path) -> None:
    source = parquet(tmp_path, [{"id": "a", "prompt": "once"}, {"id": "b", "prompt": ""}])
    file = OutputFile(tmp_path / "answers.parquet")
    file.prepare(read_lines(source))
    records = list(file.write(answer_lines(Echo(), read_lines(source))))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["answers.parquet", "requests.parquet"]
    table = pyarrow.parquet.read_table(file.path).to_pylist()
    assert [json.loads(row.pop("record")) for row in table] == records
    assert table == [{"id": name, **answer} for name, answer in zip("ab", ANSWERS, strict=True)]


def test_an_answer_in_openais_form_has_the_same_columns(tmp_path: Path) -> None:
    empty = {**OPENAI, "body": json.dumps({"prompt": ""})}
    file = OutputFile(tmp_path / "answers.parquet")
    file.prepare([])
    list(file.write(answer_lines(Echo(), read_lines(parquet(tmp_path, [OPENAI, empty])))))
    table = pyarrow.parquet.read_table(file.path).to_pylist()
    assert [(row["id"], row["text"], row["completion_tokens"]) for row in table] == [
        ("o", "once", 1),
        ("o", None, None),
    ]
    assert json.loads(table[1]["error"]) == {"message": "empty"}


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text('{"prompt": "once"}')
    with pytest.raises(ConfigError, match="cannot be read as Parquet"):
        list(read_lines(tmp_path / "a.parquet"))


def test_what_is_missing_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match="pyarrow cannot be imported") as refused:
        OutputFile(tmp_path / "answers.parquet").prepare([])
    assert "ascend-serve[data]" in refused.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_data_engine_adds_the_columns_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = data.DataEngine.__new__(data.DataEngine)
    monkeypatch.setattr(engine, "_engine", Echo(), raising=False)
    table = engine(pyarrow.table({"prompt": ["once", ""], "error": ["before", "before"], "n": [1, 2]}))
    assert table.column_names == ["prompt", "n", *(name for name in ANSWERS[0]), "record"]
    assert [{name: row[name] for name in ANSWERS[0]} for row in table.to_pylist()] == ANSWERS


def test_a_data_engine_asks_for_tables() -> None:
    with pytest.raises(TypeError, match='batch_format="pyarrow"'):
        data.DataEngine.__new__(data.DataEngine)({"prompt": ["once"]})

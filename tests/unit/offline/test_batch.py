from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.errors import ConfigError
from ascend_serve.offline.batch import OutputFile, RequestLine, answer_lines, parse_line
from ascend_serve.offline.offline_replica import Answer


class Echo:
    """Answers each prompt with itself, and refuses the prompt "bad"."""

    def answers(self, requests: Iterable[dict[str, Any]]) -> Iterator[Answer]:
        for body in list(requests):
            bad = body["prompt"] == "bad"
            yield Answer(error="refused") if bad else Answer(text=body["prompt"], response={"usage": {"n": 1}})


@pytest.mark.parametrize(
    ("text", "identifier", "body"),
    [
        pytest.param('{"prompt": "a"}', 3, {"prompt": "a"}, id="number of the line as id"),
        pytest.param('{"id": "x", "prompt": "a"}', "x", {"prompt": "a"}, id="id of its own"),
        pytest.param('{"messages": [], "top_p": 1}', 3, {"messages": [], "top_p": 1}, id="chat with parameters"),
    ],
)
def test_reads_a_request(text: str, identifier: Any, body: dict[str, Any]) -> None:
    assert parse_line(3, text) == RequestLine(identifier, body)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "line 3 is not valid JSON"),
        ("[1]", "line 3 is not a JSON object but list"),
        ("{}", 'line 3 needs either "prompt" or "messages"'),
        ('{"prompt": "a", "messages": []}', 'line 3 needs either "prompt" or "messages"'),
    ],
)
def test_tells_what_is_wrong_with_a_line(text: str, error: str) -> None:
    line = parse_line(3, text)
    assert line.body is None
    assert error in line.error


@given(st.lists(st.sampled_from(["good", "bad", None])))
def test_every_line_is_answered_in_order(prompts: list[str | None]) -> None:
    lines = [
        RequestLine(number, error="broken") if prompt is None else RequestLine(number, {"prompt": prompt})
        for number, prompt in enumerate(prompts)
    ]
    records = list(answer_lines(Echo(), lines))
    assert [record["id"] for record in records] == list(range(len(prompts)))
    outcome = {"good": ("good", None), "bad": (None, "refused"), None: (None, "broken")}
    assert [(record.get("text"), record.get("error")) for record in records] == [outcome[prompt] for prompt in prompts]


LINES = [RequestLine(1, {"prompt": "a"}), RequestLine(2, {"prompt": "b"})]


def write(file: OutputFile, lines: list[RequestLine]) -> list[Any]:
    return [record["id"] for record in file.write(answer_lines(Echo(), lines))]


def test_the_output_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "out.jsonl")
    file.prepare(LINES)
    records = file.write(answer_lines(Echo(), LINES))
    next(records)
    assert not file.path.exists()
    assert len(list(records)) == 1
    assert [json.loads(text)["text"] for text in file.path.read_text().splitlines()] == ["a", "b"]
    assert not file.part.exists()


def test_an_interrupted_run_goes_on_after_its_last_complete_line(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "out.jsonl", resume=True)
    file.part.write_text('{"id": 1, "text": "a"}\n{"id": 2, "te')
    file.prepare(LINES)
    assert file.done == 1
    assert write(file, LINES[file.done :]) == [2]
    assert [json.loads(text)["id"] for text in file.path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("there", "resume", "problem"),
    [
        pytest.param("out.jsonl", False, "exists", id="a complete output"),
        pytest.param("out.jsonl.part", False, "interrupted run", id="an interrupted run"),
        pytest.param("out.jsonl.part", True, "answers other requests", id="an interrupted run of another input"),
    ],
)
def test_overwrites_nothing_unasked(tmp_path: Path, there: str, resume: bool, problem: str) -> None:
    (tmp_path / there).write_text('{"id": "another"}\n')
    with pytest.raises(ConfigError, match=problem):
        OutputFile(tmp_path / "out.jsonl", resume=resume).prepare(LINES)
    assert (tmp_path / there).read_text() == '{"id": "another"}\n'


def test_force_starts_anew(tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.jsonl.part"):
        (tmp_path / name).write_text('{"id": "another"}\n')
    file = OutputFile(tmp_path / "out.jsonl", force=True)
    file.prepare(LINES)
    assert write(file, LINES) == [1, 2]


def test_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        OutputFile(tmp_path / "missing" / "out.jsonl").prepare(LINES)

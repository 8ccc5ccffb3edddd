from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.errors import ConfigError
from ascend_serve.offline.batch import OutputFile, OutputStream, answer_lines, read_lines
from ascend_serve.offline.batch_lines import CHAT, RequestLine, has_failed, parse_line, record_of
from ascend_serve.offline.offline_replica import Answer


class Echo:
    """Answers each prompt with itself, and refuses the prompt "bad"."""

    def answers(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[Answer]:
        for request in list(requests):
            prompt = request["body"]["prompt"]
            error = {"error": {"message": "refused"}}
            choice = {"index": 0, "text": prompt, "finish_reason": "stop", "logprobs": None}
            content = error if prompt == "bad" else {"id": "cmpl-1", "choices": [choice], "usage": {"n": 1}}
            yield Answer.of(400 if prompt == "bad" else 200, content)


@pytest.mark.parametrize(
    ("text", "identifier", "body"),
    [
        pytest.param('{"prompt": "a"}', 3, {"prompt": "a"}, id="number of the line as id"),
        pytest.param('{"id": "x", "prompt": "a"}', "x", {"prompt": "a"}, id="id of its own"),
        pytest.param('{"custom_id": "x", "prompt": "a"}', "x", {"prompt": "a"}, id="custom_id"),
        pytest.param('{"messages": [], "top_p": 1}', 3, {"messages": [], "top_p": 1}, id="chat with parameters"),
    ],
)
def test_reads_a_request(text: str, identifier: Any, body: dict[str, Any]) -> None:
    line = parse_line(3, text)
    assert (line.id, line.body, line.error, line.of_openai) == (identifier, body, "", False)
    assert (line.path == CHAT) == ("messages" in body)


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


OPENAI = {"custom_id": "x", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}


def test_a_line_of_openais_batches() -> None:
    line = parse_line(3, json.dumps(OPENAI))
    assert line == RequestLine("x", {"input": "a"}, path="/v1/embeddings", of_openai=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param({"url": "embeddings"}, 'line 3: "url" is "embeddings", not a path', id="no path"),
        pytest.param({"url": None}, '"url" is null', id="no url"),
        pytest.param({"body": "text"}, '"body" is not a JSON object', id="no body"),
        pytest.param({"method": "GET"}, '"method" is "GET", not POST', id="another method"),
    ],
)
def test_what_is_wrong_with_a_line_of_openais_batches(change: dict[str, Any], problem: str) -> None:
    line = parse_line(3, json.dumps(OPENAI | change))
    record = record_of(line, None)
    assert problem in record["error"]["message"]
    assert (record["custom_id"], record["response"], has_failed(record)) == ("x", None, True)


@pytest.mark.parametrize(
    ("status", "body", "failed"),
    [
        pytest.param(200, {"id": "cmpl-1", "choices": []}, False, id="an answer"),
        pytest.param(400, {"error": {"message": "too long"}}, True, id="a refusal"),
        pytest.param(404, {"detail": "Not Found"}, True, id="no such path"),
    ],
)
def test_an_answer_in_the_form_of_openais_batches(status: int, body: dict[str, Any], failed: bool) -> None:
    record = record_of(parse_line(1, json.dumps(OPENAI)), Answer.of(status, body))
    assert set(record) == {"id", "custom_id", "response", "error"}
    assert (record["response"]["status_code"], record["response"]["body"]) == (status, body)
    assert (record["error"], has_failed(record)) == (None, failed)


PLAIN = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": None, "stop_reason": None}


@pytest.mark.parametrize(
    ("choices", "kept"),
    [
        pytest.param([PLAIN], False, id="one text says all"),
        pytest.param([PLAIN, PLAIN | {"index": 1}], True, id="all of several choices"),
        pytest.param([PLAIN | {"logprobs": {"tokens": ["a"]}}], True, id="logprobs"),
        pytest.param(
            [{"index": 0, "message": {"role": "assistant", "content": "a", "tool_calls": []}}], False, id="chat"
        ),
        pytest.param([{"index": 0, "message": {"content": None, "tool_calls": [{"id": "1"}]}}], True, id="tool calls"),
        pytest.param([{"index": 0, "message": {"content": "a", "reasoning": "why"}}], True, id="thoughts"),
    ],
)
def test_nothing_of_an_answer_is_lost(choices: list[dict[str, Any]], kept: bool) -> None:
    record = record_of(RequestLine("x", {"prompt": "p"}), Answer.of(200, {"choices": choices, "usage": {"n": 1}}))
    assert (record.get("choices") == choices) is kept
    assert record["usage"] == {"n": 1}
    assert not has_failed(record)


def test_an_interrupted_batch_of_openais_goes_on(tmp_path: Path) -> None:
    lines = [RequestLine(name, {"prompt": name}, of_openai=True) for name in ("a", "b")]
    file = OutputFile(tmp_path / "out.jsonl", resume=True)
    file.part.write_text(json.dumps({"id": "batch_req_1", "custom_id": "a", "response": None, "error": None}) + "\n")
    file.prepare(lines)
    assert file.done == 1
    assert [record["custom_id"] for record in file.write(answer_lines(Echo(), lines[1:]))] == ["b"]


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(OutputStream().write(answer_lines(Echo(), LINES)))) == len(LINES)
    assert [json.loads(text)["text"] for text in capsys.readouterr().out.splitlines()] == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n\n{"prompt": "b"}\n')
    assert [line.id for line in read_lines(tmp_path / "in.jsonl")] == [1, 3]


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        list(read_lines(tmp_path / "in.jsonl"))

"""Offline generation: the real command on emulated NPUs, and the API that it is made of."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import COMMAND

REQUESTS = """\
{"id": "greeting", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
no request
{"prompt": "once upon", "max_tokens": 6, "temperature": 0}
{"prompt": "too long", "max_tokens": 100000}
"""


def generate(config: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    files = ("--input", folder / "requests.jsonl", "--output", folder / "answers.jsonl")
    return subprocess.run([*COMMAND, "generate", config, *options, *files], capture_output=True, text=True, check=False)


def test_answers_a_file_in_its_order(config: Callable[[int], Path], tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text(REQUESTS)
    done = generate(config(8000), tmp_path)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["id"] for answer in answers] == ["greeting", 2, 3, 4]
    assert [answer["usage"]["completion_tokens"] for answer in (answers[0], answers[2])] == [4, 6]
    assert "line 2 is not valid JSON" in answers[1]["error"]
    assert "256" in answers[3]["error"]
    assert "2 of 4 requests have no answer" in done.stderr
    assert "FULL_DECODE_ONLY" in done.stderr
    phases = re.findall(r"^(cluster|load|agree|capture|warm-up): [\d.]+ s", done.stderr, re.MULTILINE)
    assert phases[:2] == ["cluster", "load"]

    again = generate(config(8000), tmp_path)
    assert again.returncode == 2
    assert "answers.jsonl exists" in again.stderr


def test_a_missing_input_is_named_before_anything_starts(config: Callable[[int], Path], tmp_path: Path) -> None:
    done = generate(config(8000), tmp_path)
    assert done.returncode == 2
    assert "requests.jsonl: no such file" in done.stderr

"""Offline generation: the real command on emulated NPUs, and the API that it is made of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.e2e.conftest import COMMAND
from tests.model_hub import COMMIT, model_hub

REQUESTS = """\
{"id": "greeting", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
no request
{"prompt": "once upon", "max_tokens": 6, "temperature": 0}
{"prompt": "too long", "max_tokens": 100000}
{"id": "two", "prompt": "once upon", "max_tokens": 3, "n": 2, "logprobs": 2}
{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "once upon", "max_tokens": 6, "temperature": 0}}
{"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"prompt": "too long", "max_tokens": 100000}}
{"custom_id": "c", "method": "POST", "url": "/v1/nowhere", "body": {}}
"""


def generate(config: Path, folder: Path, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    files = ("--input", "-" if stdin else folder / "requests.jsonl", "--output", folder / "answers.jsonl")
    command = [*COMMAND, "generate", config, *options, *files]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_answers_what_comes_in_its_order(config: Callable[[int], Path], tmp_path: Path) -> None:
    done = generate(config(8000), tmp_path, stdin=REQUESTS)
    assert done.returncode == 3, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer.get("custom_id", answer["id"]) for answer in answers] == ["greeting", 2, 3, 4, "two", "a", "b", "c"]
    assert [answer["usage"]["completion_tokens"] for answer in (answers[0], answers[2])] == [4, 6]
    assert "line 2 is not valid JSON" in answers[1]["error"]
    assert "256" in answers[3]["error"]
    assert [len(choice["logprobs"]["tokens"]) for choice in answers[4]["choices"]] == [3, 3]
    responses = [answer["response"] for answer in answers[5:]]
    assert [response["status_code"] for response in responses] == [200, 400, 404]
    assert responses[0]["body"]["choices"][0]["text"] == answers[2]["text"]
    assert "256" in responses[1]["body"]["error"]["message"]
    assert "4 of 8 requests have no answer" in done.stderr
    assert "generate: 8 of 8, 4 failed" in done.stderr
    assert done.stdout == ""
    assert "FULL_DECODE_ONLY" in done.stderr
    phases = re.findall(r"^(cluster|load|agree|capture|warm-up): [\d.]+ s", done.stderr, re.MULTILINE)
    assert phases[:2] == ["cluster", "load"]

    again = generate(config(8000), tmp_path, stdin=REQUESTS)
    assert again.returncode == 2
    assert "answers.jsonl exists" in again.stderr


def test_a_missing_input_is_named_before_anything_starts(config: Callable[[int], Path], tmp_path: Path) -> None:
    done = generate(config(8000), tmp_path)
    assert done.returncode == 2
    assert "requests.jsonl: no such file" in done.stderr


@pytest.mark.slow
def test_two_engines_answer_in_the_order_of_the_input(config: Callable[[int], Path], tmp_path: Path) -> None:
    requests = [
        {"id": str(number), "prompt": "once", "max_tokens": 1 + number % 7, "temperature": 0, "ignore_eos": True}
        for number in range(40)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(requests), tmp_path / "requests.parquet")
    files = ("--input", tmp_path / "requests.parquet", "--output", tmp_path / "answers.parquet")
    overrides = ("--engines", "2", "parallel.tensor_parallel_size=1")
    command = [*COMMAND, "generate", str(config(8000)), *overrides, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = pyarrow.parquet.read_table(tmp_path / "answers.parquet").to_pylist()
    assert [answer["id"] for answer in answers] == [request["id"] for request in requests]
    assert [answer["completion_tokens"] for answer in answers] == [request["max_tokens"] for request in requests]
    assert "engine 2" not in done.stderr


@pytest.mark.slow
def test_more_engines_than_npus_are_refused(config: Callable[[int], Path], tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text(REQUESTS)
    done = generate(config(8000), tmp_path, "--engines", "2")
    assert done.returncode == 1
    assert "2 replicas of 2 NPUs need 4 NPUs" in done.stderr
    assert "--engines" in done.stderr


DATASET = """\
import sys
import ray
import ascend_serve

ray.init(address="local", resources={"NPU": 2}, num_cpus=4, include_dashboard=False)
asked = {"prompt": "once", "temperature": 0.0, "ignore_eos": True}
rows = [{"max_tokens": 1 + number % 7, **asked} for number in range(40)]
answers = ray.data.from_items(rows).map_batches(
    ascend_serve.DataEngine,
    fn_constructor_args=[sys.argv[1], ["parallel.tensor_parallel_size=1"]],
    batch_format="pyarrow",
    batch_size=10,
    concurrency=2,
    num_cpus=0,
)
answers.write_parquet(sys.argv[2])
"""


@pytest.mark.slow
def test_a_dataset_is_answered_by_two_engines(config: Callable[[int], Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", DATASET, str(config(8000)), str(tmp_path / "answers")]
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    answers = pyarrow.parquet.read_table(tmp_path / "answers").to_pylist()
    assert len(answers) == 40
    assert [answer["completion_tokens"] for answer in answers] == [answer["max_tokens"] for answer in answers]
    assert {answer["error"] for answer in answers} == {None}


@pytest.mark.slow
def test_a_model_is_named_by_its_id_alone(config: Callable[[int], Path], tmp_path: Path) -> None:
    options = ("emulated.npus=2", "parallel.tensor_parallel_size=2", "graph.capture_sizes=[1,2]", "vllm.max_num_seqs=2")
    memory = ("vllm.max_model_len=256", "vllm.kv_cache_memory_bytes=33554432")
    files = ("--input", "-", "--output", "-")
    with model_hub({"acme/small": config(8000).parent / "model"}) as hub:
        done = subprocess.run(
            [*COMMAND, "generate", "acme/small", *options, *memory, *files],
            input='{"prompt": "once upon", "max_tokens": 3, "model": "small"}',
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")},
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 3
    assert "acme/small is not whole in the cache of Hugging Face; downloading it" in done.stderr
    assert hub.paths.count("model.safetensors") == 1
    assert (tmp_path / "cache/hub/models--acme--small/snapshots" / COMMIT / "config.json").is_file()

"""The whole deployment on vllm-ascend and the simulated CANN: the command line, Ray Serve, our executor, two NPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.npu.start import BATCHES, MAX_REQUESTS, SIZES, TOKENS
from tests.npu.vllm_ascend import STACKS, Stack, told_by
from tests.ports import free_port

PATIENCE = 1800.0

pytestmark = pytest.mark.timeout(PATIENCE + 60)


@pytest.fixture(scope="module", params=STACKS, ids=lambda stack: stack.name)
def told(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    stack: Stack = request.param
    folder = tmp_path_factory.mktemp("serve")
    config = {
        "model": {"path": str(model), "served_name": "demo"},
        "parallel": {"tensor_parallel_size": 2},
        "graph": {"mode": "FULL_DECODE_ONLY", "capture_sizes": list(SIZES)},
        "serving": {"port": free_port()},
        "vllm": {
            "dtype": "float32",
            "max_model_len": 256,
            "max_num_seqs": MAX_REQUESTS,
            "max_num_batched_tokens": 256,
            "kv_cache_memory_bytes": 64 << 20,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    program = "from tests.npu.serve import main; main()"
    return told_by(stack, program, str(folder / "config.yaml"), folder / "cache", PATIENCE, RAY_AUTH_MODE="token")


def test_both_ranks_capture_all_sizes_in_one_session(told: dict[str, Any]) -> None:
    report = told["report"]
    assert report["outcome"] == "graph"
    assert report["runtime"] == "aclgraph"
    assert report["effective_mode"] == "FULL_DECODE_ONLY"
    assert report["capture_sizes"] == list(SIZES)
    assert [rank["graphs"] for rank in report["ranks"]] == [len(SIZES)] * 2
    assert {event["kind"] for event in report["events"]} >= {"joined", "agreed", "captured", "committed", "sealed"}


def test_answers_are_those_of_transformers(told: dict[str, Any], expected: list[list[int]]) -> None:
    assert told["tokens"] == [expected[:batch] for batch in BATCHES]


def test_what_clients_ask_is_counted_and_nothing_else(told: dict[str, Any]) -> None:
    assert {name: value for name, value in told["before"].items() if value and name.startswith("vllm:")} == {}
    counted, requests = told["counted"], sum(BATCHES)
    assert counted["http_requests_total"] == counted["vllm:request_success_total"] == requests
    assert counted["vllm:generation_tokens_total"] == requests * TOKENS


def test_ends_as_interrupted(told: dict[str, Any]) -> None:
    assert told["exit code"] == 130

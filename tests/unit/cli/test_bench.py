"""``ascend-serve bench``: what it refuses before any load, and how it reads what vLLM measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from ascend_serve.bench.server import ServedModel, Server
from ascend_serve.bench.vllm_bench import Load, check_tokenizer, measured
from ascend_serve.errors import AscendServeError, ClusterError, ConfigError, ModelError
from ascend_serve.offline.batch import check_output
from ascend_serve.telemetry.report import GraphReport
from tests.reports import REPORT

MODELS = {"data": [{"id": "a", "root": "/models/a", "max_model_len": 64}, {"id": "b"}]}
MEASURED = {
    "output_throughput": 100.0,
    "p50_ttft_ms": 1.0,
    "p99_ttft_ms": 2.0,
    "p50_tpot_ms": 3.0,
    "p99_tpot_ms": 4.0,
    "completed": 3,
    "total_output_tokens": 12,
    "duration": 0.12,
    "errors": ["", "Traceback (most recent call last):\n  in f\nConnectionResetError: gone\n", "", ""],
}


def server(status: int, answer: Any, key: str = "") -> Server:
    """A server that answers every request the same."""
    content = {"text": answer} if isinstance(answer, str) else {"json": answer}
    return Server("http://server", key, httpx.MockTransport(lambda request: httpx.Response(status, **content)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, ServedModel("a", "/models/a", 64)), ("b", ServedModel("b", "b", None))],
    ids=["the first", "a named one"],
)
def test_asks_for_the_model(name: str | None, expected: ServedModel) -> None:
    assert server(200, MODELS).model(name) == expected


@pytest.mark.parametrize(
    ("there", "name", "error", "text"),
    [
        (server(200, MODELS), "c", ConfigError, "--model: http://server serves no 'c'"),
        (server(200, {"data": []}), None, ConfigError, "It serves: nothing"),
        (server(401, {}), None, ConfigError, "http://server asks for an API key"),
        (server(401, {}, "sesame"), None, ConfigError, "http://server refuses the API key"),
        (server(503, "starting"), None, ClusterError, "/v1/models answers 503: starting"),
        (server(200, "<html>"), None, ClusterError, "not a server with the OpenAI API"),
        (server(200, {"models": []}), None, ClusterError, "not a server with the OpenAI API"),
        (Server("http://127.0.0.1:1"), None, ClusterError, "Nothing answers at http://127.0.0.1:1/v1/models"),
        (Server("127.0.0.1:1"), None, ClusterError, "missing an 'http://'"),
    ],
    ids=[
        "wrong model",
        "no model",
        "no key",
        "wrong key",
        "not ready",
        "a web page",
        "other JSON",
        "nothing",
        "no scheme",
    ],
)
def test_refuses_a_server(there: Server, name: str | None, error: type[AscendServeError], text: str) -> None:
    with pytest.raises(error) as raised:
        there.model(name)
    assert text in str(raised.value)
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize(
    ("there", "expected"),
    [(server(200, REPORT.model_dump(mode="json")), REPORT), (server(404, {}), None), (server(200, "<html>"), None)],
    ids=["ours", "no report", "a web page"],
)
def test_a_report_is_had_where_there_is_one(there: Server, expected: GraphReport | None) -> None:
    assert there.report() == expected


@pytest.mark.parametrize(("tokens", "fits"), [(32, True), (33, False)])
def test_a_request_must_fit_into_the_model(tokens: int, fits: bool) -> None:
    load, model = Load(1, 32, tokens, 1), ServedModel("a", "a", 64)
    if fits:
        load.check(model)
    else:
        with pytest.raises(ConfigError, match=r"are 65 tokens; a takes 64"):
            load.check(model)


def test_any_request_fits_where_the_server_does_not_say() -> None:
    Load(1, 10**6, 10**6, 1).check(ServedModel("a", "a"))


def test_failed_requests_are_counted_with_the_first_error() -> None:
    result = measured(Load(2, 8, 4, 4), MEASURED)
    assert (result.requests, result.failed, result.error) == (4, 1, "ConnectionResetError: gone")
    assert (result.ttft_p50_ms, result.ttft_p99_ms, result.tpot_p50_ms, result.tpot_p99_ms) == (1.0, 2.0, 3.0, 4.0)


def test_a_tokenizer_that_is_not_here_is_named(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="its tokenizers are asked")
    with pytest.raises(ModelError, match=r"The tokenizer of .*/absent is not on this machine") as raised:
        check_tokenizer(f"{tmp_path}/absent")
    assert "--tokenizer" in raised.value.remedy


@pytest.mark.parametrize(
    ("name", "force", "problem"),
    [
        ("new.json", False, ""),
        ("old.json", True, ""),
        ("old.json", False, "exists"),
        ("no/new.json", False, "no does not exist"),
    ],
)
def test_an_output_is_looked_at_first(tmp_path: Path, name: str, force: bool, problem: str) -> None:
    (tmp_path / "old.json").touch()
    if not problem:
        check_output(tmp_path / name, force=force)
        return
    with pytest.raises(ConfigError, match=problem):
        check_output(tmp_path / name, force=force)

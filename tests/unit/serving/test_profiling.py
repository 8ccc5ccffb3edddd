"""What a person gets who profiles a deployment that cannot be profiled, or is no deployment."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from ascend_serve.errors import AscendServeError
from ascend_serve.serving.profiling import API_KEY, ProfiledServer
from tests.reports import REPORT

URL = "http://deployment:8000"


def report(profiler_dir: str) -> bytes:
    return REPORT.model_copy(update={"profiler_dir": profiler_dir}).model_dump_json().encode()


def server(answer: Callable[[httpx.Request], httpx.Response]) -> ProfiledServer:
    return ProfiledServer(URL, httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("answer", "problem", "remedy"),
    [
        pytest.param(
            httpx.Response(200, content=report("")), "vllm.profiler_config is not set", "torch_profiler_dir", id="off"
        ),
        pytest.param(httpx.Response(401), "refuses the key", API_KEY, id="key"),
        pytest.param(httpx.Response(404), "not a deployment of ascend-serve", "--url", id="another server"),
        pytest.param(httpx.Response(200, text="<html>"), "not a deployment of ascend-serve", "--url", id="a page"),
        pytest.param(httpx.Response(500, text="dead"), "answers 500: dead", "", id="dead engine"),
    ],
)
def test_refusals_say_what_to_do(answer: httpx.Response, problem: str, remedy: str) -> None:
    with pytest.raises(AscendServeError) as caught:
        server(lambda _: answer).report()
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[", "127.0.0.1:8000"])
def test_an_address_where_nothing_answers_is_named(url: str) -> None:
    with ProfiledServer(url) as nobody, pytest.raises(AscendServeError, match="Nothing answers at "):
        nobody.report()


def test_a_profile_that_runs_already_is_named_and_left_alone() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(409)

    with pytest.raises(AscendServeError, match="being profiled already"), server(answer).profiled():
        pytest.fail("it was not started")
    assert asked == ["/start_profile"]


def test_the_profiler_stops_even_if_what_is_profiled_fails() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(500 if request.url.path == "/v1/completions" else 200)

    profiled = server(answer)
    with pytest.raises(AscendServeError, match="/v1/completions answers 500"), profiled.profiled():
        profiled.ask()
    assert asked == ["/start_profile", "/v1/completions", "/stop_profile"]


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, "secret")
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200, content=report("/tmp/profile"))

    server(answer).report()
    assert seen == ["Bearer secret"]

"""What a replica tells of a stream that is kept, and whom it tells nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from ascend_serve.api.stream_journal import GIVEN, KEEP, MODEL, NOT_KEPT, Output, with_outputs
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.engine.stream_outputs import STREAM
from ascend_serve.replica.kept_answers import KeptAnswers
from ascend_serve.replica.software import model_identity

SECRET = "secret"
THIS = "this-model"
BODY = b'{"stream": true}'
OUTPUTS = (Output((11,)), Output((12, 13)), Output((2,), "stop", 2))


class Application:
    """Answers with an event for each output of its engine, the first with two, as a chat does."""

    def __init__(self, content_type: str = "text/event-stream; charset=utf-8", lost_after: int = 9) -> None:
        self._content_type = content_type
        self._lost_after = lost_after
        self.body = b""
        self.headers: dict[str, str] = {}
        self.given: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.body = (await receive())["body"]
        stream = STREAM.get()
        self.given = [] if stream is None else list(stream.given)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", self._content_type.encode())],
            }
        )
        for number, output in enumerate(OUTPUTS):
            if stream is not None:
                answer: Any = SimpleNamespace(outputs=[SimpleNamespace(**spelled(output))])
                stream.note(answer)
                stream.is_kept = number < self._lost_after
            for part in range(2 if number == 0 else 1):
                await send({"type": "http.response.body", "body": event(number, part), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def spelled(output: Output) -> dict[str, Any]:
    """As vLLM has it."""
    return {"token_ids": output.tokens, "finish_reason": output.finish_reason, "stop_reason": output.stop_reason}


def event(number: int, part: int = 0) -> bytes:
    return f"data: {number}.{part}\n\n".encode()


UNTOLD = event(0) + event(0, 1) + event(1) + event(2)


def ask(
    app: Application, *, secret: str | None = SECRET, outputs: Sequence[Output] = (), model: str = THIS
) -> tuple[httpx.Response, int]:
    """The answer, and how many streams went on here."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    headers: dict[bytes, bytes] = {} if secret is None else {KEEP.encode(): secret.encode("latin-1")}
    body = BODY
    if outputs:
        headers |= {GIVEN.encode(): str(len(BODY)).encode(), MODEL.encode(): model.encode()}
        body = with_outputs(BODY, outputs)

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(KeptAnswers(app, SECRET, THIS, count))
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.post("/v1/completions", content=body, headers=headers)

    return asyncio.run(asking()), taken


def test_before_the_events_of_an_output_stand_its_tokens() -> None:
    answer, _ = ask(Application())
    first, second, last = (output.comment() for output in OUTPUTS)
    assert answer.content == first + event(0) + event(0, 1) + second + event(1) + last + event(2)
    assert answer.headers[MODEL] == THIS


@pytest.mark.parametrize("secret", [None, "guessed", "gu\u00e9"], ids=["no-secret", "another-secret", "no-ascii"])
def test_who_does_not_know_the_secret_is_told_nothing(secret: str | None) -> None:
    app = Application()
    answer, taken = ask(app, secret=secret, outputs=OUTPUTS)
    assert answer.content == UNTOLD
    assert MODEL not in answer.headers
    assert not app.given
    assert not taken


def test_what_is_no_stream_is_passed_on_as_it_is() -> None:
    answer, _ = ask(Application("application/json"))
    assert answer.content == UNTOLD
    assert MODEL not in answer.headers


def test_the_application_sees_nothing_of_the_protocol() -> None:
    app = Application()
    ask(app, outputs=OUTPUTS[:1])
    assert app.body == BODY
    assert app.headers["content-length"] == str(len(BODY))
    assert not app.headers.keys() & {KEEP, GIVEN, MODEL}


def test_what_another_replica_gave_out_comes_to_the_engine() -> None:
    app = Application()
    _, taken = ask(app, outputs=OUTPUTS[:2])
    assert app.given == list(OUTPUTS[:2])
    assert taken == 1


def test_a_stream_of_another_model_does_not_go_on_here() -> None:
    app = Application()
    answer, taken = ask(app, outputs=OUTPUTS, model="another-model")
    assert answer.status_code == 409
    assert json.loads(answer.content)["error"]["code"] == 409
    assert not app.body
    assert not taken


def test_it_says_from_where_on_a_stream_cannot_go_on() -> None:
    answer, _ = ask(Application(lost_after=1))
    assert answer.content == OUTPUTS[0].comment() + event(0) + event(0, 1) + NOT_KEPT + event(1) + event(2)


@pytest.mark.parametrize(
    ("changed", "is_equal"),
    [
        pytest.param({}, True, id="the-same"),
        pytest.param({"serving": {"port": 9}}, True, id="another-port"),
        pytest.param({"model": {"path": "/other"}}, False, id="another-model"),
        pytest.param({"vllm": {"dtype": "float32"}}, False, id="another-dtype"),
    ],
)
def test_replicas_are_equal_that_make_the_same_answers(changed: dict[str, Any], is_equal: bool) -> None:
    given = {"model": {"path": "/model"}}
    one, other = (AscendServeConfig.model_validate(fields) for fields in (given, {**given, **changed}))
    assert (model_identity(one) == model_identity(other)) is is_equal

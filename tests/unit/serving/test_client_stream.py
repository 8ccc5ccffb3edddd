"""What a client gets of a stream whose replicas are lost on the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.api import lost_engine
from ascend_serve.api.stream_journal import END, NOT_KEPT, Output
from ascend_serve.serving.client_stream import MOST_LOSSES, ClientStream, StreamState

LOST = lost_engine.event("/v1/chat/completions", 0)
DONE = b"data: [DONE]\n\n"
COMMENT = b": the engine is being replaced\n\n"


def event(text: str, created: int = 1) -> bytes:
    """An event whose text looks as if it said when it was created, too."""
    return b'data: {"id":"a","created":%d,"text":"\\"created\\":7 %s"}\n\n' % (created, text.encode())


@dataclass(frozen=True)
class Answer:
    """What a front end makes of the outputs of an engine: for each some events, before them some, after them some."""

    events: tuple[int, ...]
    before: int = 1
    after: int = 1

    @property
    def outputs(self) -> list[Output]:
        return [Output((number,)) for number in range(len(self.events))]

    def events_of(self, created: int) -> list[list[bytes]]:
        counts = (self.before, *self.events, self.after)
        return [[event(f"{place}.{number}", created) for number in range(count)] for place, count in enumerate(counts)]

    def stream(self, created: int = 1) -> bytes:
        """As a replica sends it that began then."""
        before, *groups, after = self.events_of(created)
        told = zip(self.outputs, groups, strict=True)
        return b"".join(
            (*before, *(part for output, group in told for part in (output.comment(), *group)), *after, DONE)
        )

    def plain(self, created: int = 1) -> bytes:
        """As a client gets it of one replica."""
        return b"".join((*(part for group in self.events_of(created) for part in group), DONE))


def feed(stream: ClientStream, parts: Iterable[bytes]) -> bytes:
    return b"".join(stream.feed(part) for part in parts)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *(p % (len(data) + 1) for p in places)}))]


ANSWERS = st.builds(
    Answer, st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple), st.integers(0, 2), st.integers(0, 2)
)
PLACES = st.lists(st.integers(0, 10_000), max_size=8)


@given(ANSWERS, st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), max_size=4), PLACES)
def test_wherever_it_is_cut_and_lost_the_client_gets_the_same(
    answer: Answer, losses: list[tuple[int, bool]], places: list[int]
) -> None:
    stream, got = ClientStream(), b""
    for created, (place, is_told) in enumerate(losses, 1):
        whole = answer.stream(created)
        begin = whole[: place % len(whole)]
        if is_told:
            begin = b"".join(part + END for part in begin.split(END)[:-1]) + LOST
        got += feed(stream, cut(begin, places)) + stream.end(is_whole=False)
        if not stream.go_on():
            break
        assert stream.outputs == answer.outputs[: len(stream.outputs)]
    is_open = stream.state is StreamState.OPEN
    if is_open:
        got += feed(stream, cut(answer.stream(99), places)) + stream.end(is_whole=True)
    is_whole = stream.state is StreamState.COMPLETE
    assert is_whole or not is_open
    began = re.search(rb"\d+", got.partition(b'"created":')[2])
    expected = answer.plain(int(began[0]) if began else 1)
    assert got == expected if is_whole else expected.startswith(got)
    assert stream.events == got.count(END)


def test_who_reads_all_of_it_at_once_gets_it_at_once() -> None:
    answer = Answer((1, 2))
    assert ClientStream().feed(answer.stream()) == answer.plain()


def test_a_large_event_comes_in_many_parts() -> None:
    large = event("x" * 100_000) + DONE
    stream = ClientStream()
    assert feed(stream, (large[at : at + 7] for at in range(0, len(large), 7))) == large


def test_other_comments_are_the_clients() -> None:
    stream = ClientStream()
    assert stream.feed(event("0") + COMMENT + Output((1,)).comment() + event("1")) == event("0") + COMMENT + event("1")
    assert stream.events == 2


def lost(parts: Iterable[bytes]) -> ClientStream:
    stream = ClientStream()
    feed(stream, parts)
    stream.end(is_whole=False)
    return stream


def test_it_is_whole_with_its_last_event_though_it_is_cut_then() -> None:
    stream = lost([event("0"), DONE])
    assert stream.state is StreamState.COMPLETE
    assert not stream.go_on()


def test_it_is_whole_with_its_end_though_nothing_says_so() -> None:
    stream = ClientStream()
    assert stream.feed(event("0") + b"data: unended") + stream.end(is_whole=True) == event("0") + b"data: unended"
    assert stream.state is StreamState.COMPLETE


def test_one_that_has_all_and_misses_the_end_alone_gets_that() -> None:
    stream = lost([Output((1,)).comment(), event("1")])
    assert stream.go_on()
    assert stream.feed(Output((1,)).comment() + event("1")) + stream.end(is_whole=True) == b""
    assert stream.state is StreamState.COMPLETE


BEGUN = (event("before"), Output((1,)).comment(), event("1"), Output((2,)).comment(), event("2"))


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([Output((1,)).comment(), event("1"), Output((3,)).comment(), event("3")], id="another token"),
        pytest.param([Output((1, 2)).comment(), event("1")], id="two in one"),
        pytest.param([Output((1,), "stop").comment(), event("1"), DONE], id="an end"),
        pytest.param([Output((1,), None, "x").comment(), event("1"), DONE], id="another reason"),
    ],
)
def test_another_answer_is_not_gone_on_with(again: list[bytes]) -> None:
    stream = lost(BEGUN)
    assert stream.go_on()
    assert feed(stream, again) == b""
    assert stream.state is StreamState.OTHER
    assert not stream.go_on()


def test_a_shorter_answer_is_another_one() -> None:
    stream = lost(BEGUN)
    assert stream.go_on()
    assert stream.feed(event("before") + DONE) + stream.end(is_whole=True) == b""
    assert stream.state is StreamState.OTHER


def test_what_cannot_be_kept_is_passed_on_and_not_gone_on_with() -> None:
    stream = ClientStream()
    assert stream.feed(b"".join(BEGUN) + NOT_KEPT + event("3")) == event("before") + event("1") + event("2") + event(
        "3"
    )
    assert stream.feed(LOST) == LOST
    stream.end(is_whole=False)
    assert not stream.go_on()


@pytest.mark.parametrize("error", [b'data: {"error": {"code": 400}}\n\n', b'data: {"error": {"code": 5031}}\n\n'])
def test_other_errors_are_the_clients(error: bytes) -> None:
    assert ClientStream().feed(event("0") + error) == event("0") + error


@pytest.mark.parametrize("error", [LOST, b'data: {"error":{"message":"vLLM\'s","code":500}}\n\n'])
def test_an_error_of_the_replica_is_a_loss_and_told_where_nobody_goes_on(error: bytes) -> None:
    stream = ClientStream()
    assert stream.feed(b"".join(BEGUN) + error + DONE) == event("before") + event("1") + event("2")
    assert stream.state is StreamState.LOST
    assert stream.last_words == error
    assert stream.go_on()


def times_gone_on(new_outputs: Iterable[int]) -> int:
    """How often one goes on that is lost after so many new outputs each time."""
    stream, given = ClientStream(), 0
    for times, new in enumerate(new_outputs):
        given += new
        feed(stream, (Output((number,)).comment() + event(str(number)) for number in range(given)))
        stream.end(is_whole=False)
        if not stream.go_on():
            return times
    raise AssertionError("It goes on for ever.")


@pytest.mark.parametrize(
    ("new_outputs", "expected"),
    [
        pytest.param([0, 0], 1, id="a request that ends replicas"),
        pytest.param([3, 0, 0], 2, id="one that does so later"),
        pytest.param([1, 0, 1, 0, 1, 0, 0], 6, id="one that goes on in between"),
        pytest.param([1] * 99, MOST_LOSSES - 1, id="too often"),
    ],
)
def test_losses_come_to_an_end(new_outputs: list[int], expected: int) -> None:
    assert times_gone_on(new_outputs) == expected


def test_an_output_of_which_the_client_has_nothing_is_made_anew() -> None:
    stream, first, second = ClientStream(), Output((1,)), Output((2,))
    stream.feed(first.comment() + event("a") + second.comment() + event("b")[:9])
    stream.end(is_whole=False)
    assert stream.go_on()
    assert stream.outputs == [first]
    other = Output((3,))
    assert stream.feed(first.comment() + event("a") + other.comment() + event("c") + DONE) == event("c") + DONE

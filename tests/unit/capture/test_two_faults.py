"""Every pair of faults, in any two incarnations: all ranks serve one set of graphs, or the start ends with a cause."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.graph.error_knowledge import recognize
from tests.unit.capture.simulated import Fault
from tests.unit.capture.two_faults import Start, alone, faults, name, pairs


@pytest.fixture(scope="module", autouse=True)
def errors_are_recognized_once() -> Iterator[None]:
    """Half of the time goes into eight errors otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ascend_serve.capture.causes.recognize", cache(recognize))
        yield


@pytest.mark.parametrize("first", faults(0), ids=name)
def test_whatever_follows_or_comes_beside(first: Fault) -> None:
    wrong = [
        f"{' and '.join(map(name, start.faults))} ended with {start.end}: {problem}"
        for start in (alone(first), *pairs(first))
        for problem in start.problems()
    ]
    assert wrong == []


def test_in_an_incarnation_that_never_comes_nothing_strikes() -> None:
    start = Start((Fault(0, Phase.JOIN, "crash", incarnation=1), Fault(1, Phase.SEAL, "hang", incarnation=2)))
    assert (start.struck, start.end) == ((), "aclgraph FULL_DECODE_ONLY at 1, 4, 16, incarnation 0")


OF_ONE_MEETING = [
    pytest.param("old_hdk", "out_of_memory", "eager", id="the ladder's larger step"),
    pytest.param("stream_exhausted", "out_of_memory", "aclgraph FULL_DECODE_ONLY at 16", id="what both leave"),
    pytest.param("old_hdk", "crash", "eager", id="a death hides no refusal"),
]


@pytest.mark.parametrize(("refused", "other", "words"), OF_ONE_MEETING)
def test_of_two_failures_at_one_graph_the_graver_decides_though_the_other_ends_the_workers(
    refused: str, other: str, words: str
) -> None:
    start = Start(
        (
            Fault(0, Phase.CAPTURE, refused, 4, recorded=False, incarnation=0),
            Fault(1, Phase.CAPTURE, other, 4, incarnation=0),
        )
    )
    assert len(start.struck) == 2
    assert start.end == f"{words}, incarnation 1"
    assert start.group.outcomes[0].kind is OutcomeKind.REPLACE

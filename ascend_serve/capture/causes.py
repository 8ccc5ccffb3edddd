"""The diagnosis: from what a rank said to a failure that the ladder understands."""

from __future__ import annotations

from ascend_serve.capture.messages import Arrive, Failed, Leave, Lost, Phase, Question
from ascend_serve.graph.error_knowledge import recognize
from ascend_serve.graph.failure import Failure, FailureKind
from ascend_serve.graph.keys import GraphKey


def failed_capture(question: Leave, who: str, ranks: int) -> Failure:
    """A graph that could not be captured.

    A rank that fails in a warm-up leaves its peers inside a collective that it will never join, so nobody can go on in
    place.
    """
    result = question.result
    phase = result.phase or Phase.CAPTURE
    found = recognize(result.error_type, result.error_text)
    return Failure(
        found.kind,
        f"{who} in {phase.value} of {question.key.label}",
        f"{result.error_type}: {found.line}",
        question.key,
        recorded=result.recorded or (phase is Phase.WARMUP and ranks > 1),
        hint=found.advice,
    )


def failed_rank(question: Failed, who: str) -> Failure:
    """A rank that cannot go on outside of a graph, so that nothing is known about its process."""
    found = recognize(question.error_type, question.error_text)
    error = f"{question.error_type}: {found.line}"
    return Failure(found.kind, f"{who} in {question.phase.value}", error, recorded=True, hint=found.advice)


def lost_rank(message: Lost, where: str, key: GraphKey | None) -> Failure:
    """A rank whose process ended, inside of the graph ``key`` if it was let into one."""
    return Failure(FailureKind.LOST, where, message.death.text, key, death=message.death)


def hanging_ranks(where: str, seconds: float) -> Failure:
    """Ranks that did not come to a meeting in time."""
    return Failure(FailureKind.DEADLINE, where, f"no answer within {seconds:g} s")


def out_of_step(question: Question, where: str) -> Failure:
    """A rank that is where it cannot be if it holds what the others hold."""
    at = f" at {question.key.label}" if isinstance(question, Arrive | Leave) else ""
    return Failure(FailureKind.MISMATCH, where, f"unexpected {type(question).__name__}{at}")


def changed_numbers(who: str) -> Failure:
    """A rank whose canary does not hold."""
    return Failure(FailureKind.WRONG_NUMBERS, f"{who} in {Phase.SEAL.value}", "the canary's logits changed")


def different_graphs(who: str) -> Failure:
    """Ranks whose digests differ."""
    return Failure(FailureKind.MISMATCH, f"{who} in {Phase.SEAL.value}", "they hold different graphs")

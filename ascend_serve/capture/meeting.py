"""A meeting point: the questions that wait until all ranks are there."""

from __future__ import annotations

from ascend_serve.capture.messages import Question
from ascend_serve.graph.failure import Failure
from ascend_serve.graph.keys import GraphKey


class Meeting:
    """Who waits at one meeting point, and what they brought.

    Attributes:
        waiting: Questions by rank; a rank that repeats itself waits with each of them.
        failures: Failures told at this meeting, oldest first.
        refusals: By rank: the graph that was refused streams, and the streams left where the device told.
        digests: By digest: the first rank that holds it.
        hearsay: What a rank told of another that is gone, until there is word of its death.
        places: By rank: where it stands still, of those that tell so while they are waited for.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self.waiting: dict[int, list[Question]] = {}
        self.failures: list[Failure] = []
        self.refusals: dict[int, tuple[GraphKey, int | None]] = {}
        self.digests: dict[str, int] = {}
        self.hearsay: Failure | None = None
        self.places: dict[int, str] = {}

    def __contains__(self, rank: int) -> bool:
        return rank in self.waiting

    def add(self, question: Question) -> None:
        """Let a question wait."""
        self.waiting.setdefault(question.rank, []).append(question)

    @property
    def complete(self) -> bool:
        """Whether all ranks are there, and none is said to be gone."""
        return len(self.waiting) == self._ranks and self.hearsay is None

    def gravest(self, failure: Failure) -> Failure:
        """Of ``failure`` and those told at this meeting the one that leaves least; ``failure`` before its equals."""
        return max((failure, *self.failures), key=lambda each: each.treatment.step)

    def hanging(self) -> list[int]:
        """Ranks that are not there, ascending; where some of them tell so, and others do not, those others."""
        missing = [rank for rank in range(self._ranks) if rank not in self.waiting]
        return [rank for rank in missing if not self.places.get(rank)] or missing

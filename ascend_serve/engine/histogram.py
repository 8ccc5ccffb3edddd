"""Counts decode batch sizes, as the scheduler hands them out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput


class DecodeHistogram:
    """Decode steps by batch size in tokens.

    Args:
        decode_query_len: Tokens per request in a decode step.
    """

    def __init__(self, decode_query_len: int) -> None:
        self._decode_query_len = decode_query_len
        self._counts: Counter[int] = Counter()

    def count(self, step: SchedulerOutput) -> None:
        """Count ``step`` if it is a uniform decode: every request has the decode query length."""
        scheduled = step.num_scheduled_tokens
        if scheduled and step.total_num_scheduled_tokens == len(scheduled) * self._decode_query_len:
            self._counts[step.total_num_scheduled_tokens] += 1

    def counts(self) -> dict[int, int]:
        """The counts so far."""
        return dict(self._counts)

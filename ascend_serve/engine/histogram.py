"""Counts steps by their size, as the scheduler hands them out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput


class StepHistogram:
    """Steps by their tokens: uniform decodes, and all others.

    Args:
        decode_query_len: Tokens per request in a decode step.
    """

    def __init__(self, decode_query_len: int) -> None:
        self._decode_query_len = decode_query_len
        self._decode: Counter[int] = Counter()
        self._mixed: Counter[int] = Counter()

    def count(self, step: SchedulerOutput) -> None:
        """Count ``step``: it is a uniform decode if every request has the decode query length."""
        scheduled = step.num_scheduled_tokens
        if not scheduled:
            return
        tokens = step.total_num_scheduled_tokens
        is_decode = tokens == len(scheduled) * self._decode_query_len
        (self._decode if is_decode else self._mixed)[tokens] += 1

    def counts(self) -> tuple[dict[int, int], dict[int, int]]:
        """The counts so far: of uniform decodes, and of all others."""
        return dict(self._decode), dict(self._mixed)

"""What steps replayed: from how many steps there were of each size, and the plan that held."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.graph.sizes import padded_size


class Replay(StrEnum):
    """How a step ran."""

    EXACT = "exact"
    PADDED = "padded"
    EAGER = "eager"


class StepKind(StrEnum):
    """What a step was: ``decode`` where every request has the decode query length, ``mixed`` otherwise."""

    DECODE = "decode"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of one size.

    Attributes:
        kind: What they were.
        replay: How they ran.
        mode: The kind of graph that they replayed; ``NONE`` where they ran eager.
        size: The capture size that they replayed, in tokens; ``None`` where they ran eager.
        tokens: Tokens of each, without padding.
        count: How many there were.
    """

    kind: StepKind
    replay: Replay
    mode: GraphMode
    size: int | None
    tokens: int
    count: int

    @property
    def real(self) -> int:
        """Tokens of all, without padding."""
        return self.tokens * self.count

    @property
    def padding(self) -> int:
        """Tokens that padding added."""
        return 0 if self.size is None else (self.size - self.tokens) * self.count


def classify(kind: StepKind, counts: Mapping[int, int], plan: CapturePlan | None) -> Iterator[Steps]:
    """How steps ran, as vLLM's dispatcher decides it (0.23.0 and 0.32.0): padded up to the next captured size.

    Args:
        kind: What the steps were.
        counts: How many there were by their tokens.
        plan: The plan that held.
    """
    mode = _mode(kind, plan)
    is_program = plan is not None and plan.runtime is RuntimeName.XLITE and plan.mode is GraphMode.NONE
    for tokens, count in sorted(counts.items()):
        size = None if plan is None or mode is GraphMode.NONE else padded_size(plan.capture_sizes, tokens)
        if is_program:
            # In its full mode Xlite runs every step by its own program, unpadded.
            yield Steps(kind, Replay.EXACT, GraphMode.NONE, None, tokens, count)
        elif size is None:
            yield Steps(kind, Replay.EAGER, GraphMode.NONE, None, tokens, count)
        else:
            yield Steps(kind, Replay.EXACT if size == tokens else Replay.PADDED, mode, size, tokens, count)


def _mode(kind: StepKind, plan: CapturePlan | None) -> GraphMode:
    if plan is None or plan.is_eager:
        return GraphMode.NONE
    return plan.mode.decode_mode if kind is StepKind.DECODE else plan.mode.mixed_mode


StepGroup = tuple[StepKind, Replay, GraphMode, int | None]
"""What steps have in common that are counted together: their kind, and how they ran."""


@dataclass(slots=True)
class StepTotal:
    """Steps that are counted together.

    Attributes:
        steps: How many.
        tokens: Their tokens, without padding.
        padding: Tokens that padding added.
    """

    steps: int = 0
    tokens: int = 0
    padding: int = 0


class StepMeter:
    """Takes in what an engine has counted by now, as steps of the plan that held since.

    Attributes:
        decode: Uniform decode steps by their tokens, of all engines so far.
        totals: All steps, of all engines so far.
    """

    def __init__(self) -> None:
        self.decode: Counter[int] = Counter()
        self.totals: defaultdict[StepGroup, StepTotal] = defaultdict(StepTotal)
        self._before: dict[StepKind, Counter[int]] = {}
        self.begin_again()

    def begin_again(self) -> None:
        """Another engine counts from 0."""
        self._before = {kind: Counter() for kind in StepKind}

    def take(self, decode: Mapping[int, int], mixed: Mapping[int, int], plan: CapturePlan | None) -> None:
        """Take in what was counted since the last time.

        Args:
            decode: Uniform decode steps of this engine by their tokens.
            mixed: All other steps.
            plan: The plan that held since.
        """
        for kind, counts in ((StepKind.DECODE, Counter(decode)), (StepKind.MIXED, Counter(mixed))):
            new = counts - self._before[kind]
            # Of two that asked at once, the later may be answered first.
            self._before[kind] |= counts
            for steps in classify(kind, new, plan):
                self._add(steps)
            if kind is StepKind.DECODE:
                self.decode += new

    def _add(self, steps: Steps) -> None:
        total = self.totals[steps.kind, steps.replay, steps.mode, steps.size]
        total.steps += steps.count
        total.tokens += steps.real
        total.padding += steps.padding

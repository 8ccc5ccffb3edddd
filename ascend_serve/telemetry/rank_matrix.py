"""Ranks by graphs, as the page shows them: what each graph is on each rank; neighbours that are alike share a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ascend_serve.capture.roster import Member
from ascend_serve.telemetry.story import Story


@dataclass(frozen=True, slots=True)
class CellState:
    """What a graph is on a rank.

    Attributes:
        name: For the style.
        sign: One character.
        text: In words.
    """

    name: str
    sign: str
    text: str


HELD = CellState("held", "✓", "held by all ranks")
CAPTURED = CellState("captured", "●", "captured here")
CAPTURING = CellState("capturing", "…", "warming up or capturing")
FAILED = CellState("failed", "✗", "failed here")
PLANNED = CellState("planned", "·", "planned")
DROPPED = CellState("dropped", "-", "given up")
CELL_STATES = (HELD, CAPTURED, CAPTURING, FAILED, PLANNED, DROPPED)


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """Neighbouring ranks of which the same holds.

    Attributes:
        ranks: Their numbers.
        node: Their node.
        state: What they did last.
        cells: What each graph is on them.
    """

    ranks: str
    node: str
    state: str
    cells: tuple[CellState, ...]


@dataclass(frozen=True, slots=True)
class RankMatrix:
    """Ranks by graphs.

    Attributes:
        columns: Labels of the graphs.
        rows: The ranks.
        nothing: What to say where there are no graphs.
    """

    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    nothing: str

    @property
    def legend(self) -> tuple[CellState, ...]:
        """The states that occur."""
        used = {cell for row in self.rows for cell in row.cells}
        return tuple(state for state in CELL_STATES if state in used)


def rank_matrix(story: Story) -> RankMatrix:
    """What each graph of a start is on each rank now."""
    plan = story.group.plan
    planned = frozenset[str]() if plan is None else frozenset(key.label for key in plan.keys)
    labels = tuple(sorted(story.wanted, key=lambda label: (label.partition("/")[0], story.wanted[label])))
    members = sorted(story.group.roster.members.items())
    told = [(rank, _told(story, member, labels, planned)) for rank, member in members]
    rows = []
    for same, ranks in groupby(told, key=lambda pair: pair[1]):
        numbers = [rank for rank, _ in ranks]
        name = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        rows.append(MatrixRow(name, *same))
    return RankMatrix(labels, tuple(rows), _without_graphs(story))


def _without_graphs(story: Story) -> str:
    if story.group.plan is None:
        return "No plan was agreed on yet."
    return f"There are no graphs to capture: the ranks run {story.group.plan.runtime}."


def _told(
    story: Story, member: Member, labels: Sequence[str], planned: frozenset[str]
) -> tuple[str, str, tuple[CellState, ...]]:
    cells = tuple(_cell(story, member, label, planned) for label in labels)
    return member.node, str(member.state).replace("_", " "), cells


def _cell(story: Story, member: Member, label: str, planned: frozenset[str]) -> CellState:
    here = label in member.graphs
    if label in story.group.held and here:
        return HELD
    if label in member.failed:
        return FAILED
    if planned and label not in planned:
        return DROPPED
    if here:
        return CAPTURED
    return CAPTURING if label == story.group.at else PLANNED

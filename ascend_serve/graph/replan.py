"""Other capture sizes for a running group: when they are worth it, and the way there one graph at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ascend_serve.graph.sizes import padding_waste, select_sizes


def better_sizes(
    current: Sequence[int], candidates: Sequence[int], weights: Mapping[int, float], saving: float
) -> tuple[int, ...] | None:
    """Sizes that waste less than the current ones, with no more graphs.

    Args:
        current: Sizes that are captured now, ascending, in tokens.
        candidates: Sizes that could be captured; the largest current one stays, larger ones never come in.
        weights: Decode steps per batch size in tokens, as counted.
        saving: Padding waste (padded minus real tokens, over real tokens) that must be saved.

    Returns:
        The sizes, ascending, or ``None`` when they would save less than ``saving``.
    """
    if not current:
        return None
    reachable = {size for size in candidates if size <= current[-1]} | {current[-1]}
    best = select_sizes(sorted(reachable), len(current), weights)
    saved = padding_waste(current, weights) - padding_waste(best, weights)
    return best if saved >= saving else None


def one_at_a_time(current: Sequence[int], wanted: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The way from ``current`` to ``wanted`` in which each step captures at most one new size.

    A step first lets go of a size that is not wanted, so the number of graphs never grows beyond the larger of both.
    """
    held, steps = set(current), []
    obsolete = sorted(held - set(wanted))
    for size in sorted(set(wanted) - held):
        held = (held - {obsolete.pop()} if obsolete else held) | {size}
        steps.append(tuple(sorted(held)))
    if obsolete:
        steps.append(tuple(sorted(wanted)))
    return tuple(steps)

"""Capture sizes: which batch sizes get a graph, so that padding wastes least.

A decode step of ``n`` tokens replays the graph of the next captured size ``s >= n``. The time of a graph step is taken
as affine in its padded tokens, ``a + b * s``; for such a cost the best sizes depend on neither ``a`` nor ``b``, so they
are those with the fewest padded tokens. Steps above the largest size run eager whatever else is chosen: several times
slower, which is why the largest candidate is always captured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import inf, lcm

MAX_CAPTURE_SIZE = 512
"""vllm-ascend's default cap of ``max_cudagraph_capture_size``, in tokens."""


def candidate_sizes(
    max_num_seqs: int, decode_query_len: int = 1, multiple_of: int = 1, maximum: int = MAX_CAPTURE_SIZE
) -> tuple[int, ...]:
    """List every size that a decode batch can be padded to and that can be reached, ascending, in tokens.

    Args:
        max_num_seqs: The scheduler's limit of requests in a batch.
        decode_query_len: Tokens per request in a decode step (1 + speculative tokens); sizes are multiples of it.
        multiple_of: What else sizes must be multiples of: the tensor-parallel size with sequence parallelism.
        maximum: Largest size to capture.

    Returns:
        All multiples up to ``min(max_num_seqs * decode_query_len, maximum)``; empty when there is none.
    """
    unit = lcm(decode_query_len, multiple_of)
    return tuple(range(unit, min(max_num_seqs * decode_query_len, maximum) + 1, unit))


def select_sizes(
    candidates: Sequence[int], max_graphs: int, weights: Mapping[int, float] | None = None
) -> tuple[int, ...]:
    """Choose at most ``max_graphs`` of ``candidates`` with the fewest expected padded tokens: the exact optimum.

    Dynamic programming over (number of graphs, largest size so far). The cost of a gap between two neighbouring sizes
    fulfils the quadrangle inequality, so each row is filled by divide and conquer in ``O(m log m)``.

    Args:
        candidates: Sizes to choose from, in tokens.
        max_graphs: How many sizes may be captured.
        weights: Share of decode steps per batch size in tokens; ``prior_weights`` when empty.

    Returns:
        Sizes, ascending. The largest candidate is among them when ``max_graphs`` is 1 or more. No more sizes than
        needed for the least padding.
    """
    sizes = sorted(set(candidates))
    if not sizes or max_graphs < 1:
        return ()
    steps = _cumulated(sizes, _used(weights, sizes[-1]) or prior_weights(sizes))
    costs = _first_row(sizes, steps)
    origins: list[list[int]] = []
    while len(origins) + 1 < min(max_graphs, len(sizes)):
        row, origin = _next_row(costs, sizes, steps)
        if row[-1] >= costs[-1]:
            break
        costs = row
        origins.append(origin)
    return _walk_back(sizes, origins)


def prior_weights(candidates: Sequence[int]) -> dict[int, float]:
    """Weights for a load that is not known: half spread evenly over the candidates, half evenly over their logarithm.

    The even half bounds the waste when the load fills the deployment, the logarithmic half when it is low.
    """
    sizes = sorted(set(candidates))
    harmonic = sum(1 / size for size in sizes)
    return {size: 0.5 / len(sizes) + 0.5 / (size * harmonic) for size in sizes}


def padded_size(sizes: Sequence[int], num_tokens: int) -> int | None:
    """Answer the captured size that a step of ``num_tokens`` replays, or ``None`` when it runs eager.

    Args:
        sizes: Captured sizes, ascending.
        num_tokens: Tokens of the step.
    """
    index = bisect_left(sizes, num_tokens)
    return sizes[index] if index < len(sizes) else None


def padding_waste(sizes: Sequence[int], weights: Mapping[int, float]) -> float:
    """Padded minus real tokens over real tokens, for the steps that replay a graph.

    Args:
        sizes: Captured sizes, ascending.
        weights: Share of decode steps per batch size in tokens.
    """
    covered = [(n, weight, padded) for n, weight in weights.items() if (padded := padded_size(sizes, n)) is not None]
    real = sum(n * weight for n, weight, _ in covered)
    return sum((padded - n) * weight for n, weight, padded in covered) / real if real else 0.0


def eager_share(sizes: Sequence[int], weights: Mapping[int, float]) -> float:
    """Share of the steps that are larger than every captured size and so run eager."""
    total = sum(weights.values())
    above = sum(weight for n, weight in weights.items() if padded_size(sizes, n) is None)
    return above / total if total else 0.0


def _used(weights: Mapping[int, float] | None, largest: int) -> dict[int, float]:
    return {n: weight for n, weight in (weights or {}).items() if 0 < n <= largest and weight > 0}


def _cumulated(sizes: list[int], weights: Mapping[int, float]) -> list[float]:
    """Weight of all steps up to each size."""
    per_size: list[float] = [0] * len(sizes)
    for n, weight in weights.items():
        per_size[bisect_left(sizes, n)] += weight
    return list(accumulate(per_size))


def _first_row(sizes: list[int], steps: list[float]) -> list[float]:
    """Padded tokens when one graph of each size covers all steps up to it."""
    return [size * below for size, below in zip(sizes, steps, strict=True)]


def _next_row(costs: list[float], sizes: list[int], steps: list[float]) -> tuple[list[float], list[int]]:
    """Least padded tokens with one graph more, per largest size, and the size below it that reaches that."""
    row: list[float] = [inf] * len(sizes)
    origin = [0] * len(sizes)
    spans = [(1, len(sizes) - 1, 0, len(sizes) - 2)]
    while spans:
        low, high, first, last = spans.pop()
        if low > high:
            continue
        top = (low + high) // 2
        size, below = sizes[top], steps[top]
        best = min(range(first, min(last, top - 1) + 1), key=lambda j: costs[j] - size * steps[j])
        row[top], origin[top] = costs[best] + size * (below - steps[best]), best
        spans += [(low, top - 1, first, best), (top + 1, high, best, last)]
    return row, origin


def _walk_back(sizes: list[int], origins: list[list[int]]) -> tuple[int, ...]:
    index = len(sizes) - 1
    chosen = [sizes[index]]
    for origin in reversed(origins):
        index = origin[index]
        chosen.append(sizes[index])
    return tuple(reversed(chosen))

"""Ranks in words, for messages that name who is meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_NODES_SHOWN = 3


def rank_ranges(ranks: Iterable[int]) -> str:
    """Ascending rank numbers as ranges, for example ``0-3, 6``."""
    ranges: list[list[int]] = []
    for rank in ranks:
        if ranges and rank == ranges[-1][-1] + 1:
            ranges[-1][1:] = [rank]
        else:
            ranges.append([rank])
    return ", ".join("-".join(map(str, ends)) for ends in ranges)


def name_ranks(ranks: Sequence[int], nodes: Mapping[int, str]) -> str:
    """Ranks with their nodes, for example ``ranks 0-3 (node-a)``.

    Args:
        ranks: Rank numbers, ascending.
        nodes: Node of each rank, as far as known.
    """
    where = list(dict.fromkeys(nodes[rank] for rank in ranks if rank in nodes))
    more = [f"{len(where) - _NODES_SHOWN} more nodes"] if len(where) > _NODES_SHOWN else []
    shown = f" ({', '.join(where[:_NODES_SHOWN] + more)})" if where else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {rank_ranges(ranks)}{shown}"

"""Draws that are taken back, as vLLM does it with the offset of a device's generator."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from ascend_serve.emulated.generator import RewindableGenerator, remember_draws


@dataclass
class Batch:
    """What is read of vLLM's ``InputBatch``."""

    generators: dict[int, torch.Generator]
    req_ids: tuple[str, ...] = ("a", "b", "c")


@dataclass
class Request:
    """What is written of vLLM's ``CachedRequestState``."""

    generator: torch.Generator | None = None


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def draw(generator: torch.Generator) -> list[float]:
    values: list[float] = torch.empty(3).exponential_(generator=generator).tolist()
    return values


def test_a_draw_that_is_taken_back_comes_again() -> None:
    reference = seeded()
    first, second = draw(reference), draw(reference)
    batch = Batch({0: seeded(), 2: seeded()})
    requests = {name: Request() for name in batch.req_ids}
    remember_draws(batch, requests)
    assert [draw(batch.generators[index]) for index in (0, 2)] == [first, first]
    batch.generators[0].set_offset(batch.generators[0].get_offset() - 4)
    remember_draws(batch, requests)
    assert [draw(batch.generators[index]) for index in (0, 2)] == [first, second]
    remember_draws(batch, requests)
    assert draw(batch.generators[0]) == second


def test_a_generator_is_exchanged_once() -> None:
    batch, requests = Batch({1: seeded()}), {name: Request() for name in "abc"}
    remember_draws(batch, requests)
    exchanged = batch.generators[1]
    remember_draws(batch, requests)
    assert batch.generators[1] is exchanged
    assert [request.generator for request in requests.values()] == [None, exchanged, None]


def test_nothing_but_the_last_draw_is_taken_back() -> None:
    generator = RewindableGenerator.of(torch.Generator())
    generator.remember()
    with pytest.raises(ValueError, match="only the last draw"):
        generator.set_offset(8)

"""An engine that answers is not ready yet."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from fastapi import FastAPI

from ascend_serve.errors import EngineError
from ascend_serve.replica.warm_up import warm_up


class Engine:
    """Answers with a probability where it is asked for one, as the engine does."""

    def __init__(self, probability: float) -> None:
        self._probability = probability
        self.asked: list[dict[str, Any]] = []

    async def ask(self, max_tokens: int, **sampling: Any) -> float | None:
        self.asked.append(sampling)
        return self._probability if "logprobs" in sampling else None


def test_each_kind_of_sampler_is_used() -> None:
    engine = Engine(-1.0)
    asyncio.run(warm_up(engine, FastAPI()))  # type: ignore[arg-type]
    assert {"top_p", "top_k", "min_p"} <= {name for sampling in engine.asked for name in sampling}


def test_a_model_that_computes_no_numbers_is_not_served() -> None:
    with pytest.raises(EngineError, match="computes NaN") as caught:
        asyncio.run(warm_up(Engine(math.nan), FastAPI()))  # type: ignore[arg-type]
    assert "weights" in caught.value.remedy

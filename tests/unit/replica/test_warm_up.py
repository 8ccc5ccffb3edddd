"""An engine that answers is not ready yet."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from fastapi import FastAPI

from ascend_serve.errors import EngineError
from ascend_serve.replica.warm_up import use_application, warm_up


class Engine:
    """Answers with a probability where it is asked for one, as the engine does."""

    def __init__(self, probability: float, *, is_pooling: bool = False) -> None:
        self._probability = probability
        self.is_pooling = is_pooling
        self.asked: list[dict[str, Any]] = []
        self.pooled: list[str] = []

    async def pooling_tasks(self) -> tuple[str, ...]:
        return ("embed", "token_embed")

    async def pool(self, task: str) -> float:
        self.pooled.append(task)
        return self._probability

    async def ask(self, max_tokens: int, **sampling: Any) -> float | None:
        self.asked.append(sampling)
        return self._probability if "logprobs" in sampling else None


def test_each_kind_of_sampler_is_used() -> None:
    engine = Engine(-1.0)
    asyncio.run(warm_up(engine))  # type: ignore[arg-type]
    assert {"top_p", "top_k", "min_p"} <= {name for sampling in engine.asked for name in sampling}


def test_a_model_that_pools_is_asked_to_pool() -> None:
    app, engine = FastAPI(), Engine(1.0, is_pooling=True)
    used = []
    app.add_api_route("/v1/embeddings", lambda: used.append("embeddings"), methods=["POST"])
    asyncio.run(warm_up(engine))  # type: ignore[arg-type]
    asyncio.run(use_application(app, is_pooling=True))
    assert (engine.asked, engine.pooled, used) == ([], ["embed", "token_embed"], ["embeddings"])


@pytest.mark.parametrize("is_pooling", [False, True], ids=["generates", "pools"])
def test_a_model_that_computes_no_numbers_is_not_served(is_pooling: bool) -> None:
    with pytest.raises(EngineError, match="computes NaN") as caught:
        asyncio.run(warm_up(Engine(math.nan, is_pooling=is_pooling)))  # type: ignore[arg-type]
    assert "weights" in caught.value.remedy

"""Requests that go on, as ranks with the first model runner keep them (vLLM 0.23.0, 0.32.0); see `continuation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from vllm.v1.worker.gpu_input_batch import CachedRequestState

from ascend_serve.engine.continuation import given_out


class ContinuedState(CachedRequestState):
    """A request on a rank, which may have output when it comes.

    Attributes:
        draw: Draws from a generator what sampling one token draws.
    """

    draw: ClassVar[Callable[[torch.Generator], None]]

    def __post_init__(self) -> None:
        super().__post_init__()
        for token in given_out(self.sampling_params):
            self.output_token_ids.append(token)
            if self.generator is not None:
                type(self).draw(self.generator)


def continue_on_rank(runner: Any) -> None:
    """Let the rank of this process take requests that have output, from now on.

    Args:
        runner: vLLM's V1 model runner of the rank.
    """
    # It imports models, which have to come after what vllm-ascend changes for them in a worker's start.
    from vllm.v1.worker import gpu_model_runner

    def draw(generator: torch.Generator) -> None:
        # However the platform's sampler draws: by vocabulary on NPUs, one number on CPUs.
        logits = torch.zeros(1, runner.model_config.get_vocab_size(), device=runner.device)
        runner.sampler.topk_topp_sampler(logits, {0: generator}, None, None)

    ContinuedState.draw = draw
    gpu_model_runner.CachedRequestState = ContinuedState

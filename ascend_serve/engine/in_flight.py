"""The requests of an engine that cannot answer them any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.engine.exceptions import EngineDeadError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def fail_requests(llm: AsyncLLM) -> None:
    """Let every request in flight raise ``EngineDeadError``.

    vLLM itself does so when its engine core dies (``OutputProcessor.propagate_error``, 0.23.0 and 0.32.0), but not for
    an engine core that hangs, nor for one that is shut down.
    """
    llm.output_processor.propagate_error(EngineDeadError())

"""vLLM's engine, as a replica needs it (0.23.0 and 0.32.0)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.async_llm import AsyncLLM

from ascend_serve.engine.client_stats import ClientStats, leave_out


class ServedLLM(AsyncLLM):
    """An engine whose traces may take minutes to write, and which tells its replica's requests from those of clients.

    Attributes:
        is_profiling: Whether the ranks start their profiler or write their traces, and answer nothing else.
    """

    is_profiling = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Random, or a client could name its requests so.
        self._own = f"ascend-serve-{uuid.uuid4().hex}-"
        self._own_requests = 0
        leave_out(self.output_processor, self._is_own)

    @classmethod
    def from_vllm_config(cls, *args: Any, disable_log_stats: bool = False, **options: Any) -> ServedLLM:
        """Start an engine; its metrics begin with `count_clients`."""
        loggers = None if disable_log_stats else [ClientStats]
        return super().from_vllm_config(*args, stat_loggers=loggers, disable_log_stats=disable_log_stats, **options)

    def count_clients(self) -> None:
        """Let vLLM's metrics count from now on."""
        for logger in self.logger_manager.stat_loggers if self.logger_manager is not None else ():
            if isinstance(logger, ClientStats):
                logger.is_counting = True

    async def ask(self, params: SamplingParams, data_parallel_rank: int | None = None) -> None:
        """Answer a short request of our own, which no metric counts."""
        params.skip_reading_prefix_cache = True
        self._own_requests += 1
        try:
            name = f"{self._own}{uuid.uuid4().hex}"
            prompt = {"prompt_token_ids": [1, 2, 3]}
            async for _ in self.generate(prompt, params, name, data_parallel_rank=data_parallel_rank):
                pass
        finally:
            self._own_requests -= 1

    async def start_profile(self, *args: Any, **kwargs: Any) -> None:
        """Let all ranks begin to trace."""
        with self._profiling():
            await super().start_profile(*args, **kwargs)

    async def stop_profile(self) -> None:
        """Let all ranks write their traces."""
        with self._profiling():
            await super().stop_profile()

    async def _add_request(self, request: Any, prompt: Any, parent_req: Any, index: int, queue: Any) -> None:
        """Refuse what cannot be sent to the engine core, a number of more than 64 bits, which vLLM calls its own fault.

        vLLM also forgets to take such a request back, and would believe for ever that one is under way.
        """
        try:
            await super()._add_request(request, prompt, parent_req, index, queue)
        except OverflowError as error:
            await self.abort(queue.request_id, internal=True)
            raise VLLMValidationError(f"A number of the request is out of range: {error}") from error

    def _is_own(self, request_id: str) -> bool:
        return self._own_requests > 0 and request_id.startswith(self._own)

    @contextmanager
    def _profiling(self) -> Iterator[None]:
        self.is_profiling = True
        try:
            yield
        finally:
            self.is_profiling = False

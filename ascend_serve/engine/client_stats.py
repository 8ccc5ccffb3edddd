"""vLLM's metrics of what clients ask for, without what a replica asks itself (vLLM 0.23.0 and 0.32.0).

vLLM counts whatever passes its output processor. A replica warms its engine up before it serves, and lets an idle
engine decode now and then; neither is anybody's request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.loggers import PrometheusStatLogger


class ClientStats(PrometheusStatLogger):
    """vLLM's own metrics, which stay at 0 until clients may ask.

    Attributes:
        is_counting: Whether they may.
    """

    is_counting = False

    def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **options: Any) -> None:
        """Record an iteration of the engine; one without anything for a client leaves its histograms alone."""
        if self.is_counting:
            served = iteration_stats if _has_content(iteration_stats) else None
            super().record(scheduler_stats, served, *args, **options)


def leave_out(processor: OutputProcessor, is_own: Callable[[str], bool]) -> None:
    """Let ``processor`` keep no statistics of our own requests.

    Args:
        processor: That of an engine.
        is_own: Tells by its name whether a request is ours.
    """
    process = processor.process_outputs

    def process_outputs(
        outputs: list[Any], engine_core_timestamp: Any = None, iteration_stats: Any = None, **options: Any
    ) -> Any:
        own = [output for output in outputs if is_own(output.request_id)]
        if not own:
            return process(outputs, engine_core_timestamp, iteration_stats, **options)
        others = [output for output in outputs if not is_own(output.request_id)]
        result = process(others, engine_core_timestamp, iteration_stats, **options)
        result.reqs_to_abort.extend(process(own, engine_core_timestamp, None, **options).reqs_to_abort)
        return result

    processor.process_outputs = process_outputs


def _has_content(stats: Any) -> bool:
    return stats is not None and bool(stats.num_prompt_tokens or stats.num_generation_tokens or stats.finished_requests)

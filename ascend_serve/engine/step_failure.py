"""A step that fails ends the engine, and only the rank knows why.

Under async scheduling (vLLM 0.32.0, ``EngineCore.step_with_batch_queue``) the core first meets what follows from it:
tokens that are not there. So the rank tells the driver itself, before anybody else knows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ascend_serve.graph.death import MOST_COLUMNS, Death
from ascend_serve.graph.error_knowledge import recognize

if TYPE_CHECKING:
    from vllm.v1.worker.worker_base import WorkerBase

_STEPS = ("execute_model", "sample_tokens")
"""Methods of a worker that a step consists of; what fails in any other call is answered, and the engine goes on."""


def tell_of_failed_steps(worker: WorkerBase, tell: Callable[[Death], None]) -> None:
    """Have the first error of a step told, from now on; it is raised as before.

    Args:
        worker: The platform's worker.
        tell: Tells whoever can say why the engine ended.
    """
    waiting = [tell]

    def told(step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return step(*args, **kwargs)
            except Exception as error:
                # The steps behind it fail for want of this one.
                if waiting:
                    waiting.pop()(_death(error))
                raise

        return run

    for name in _STEPS:
        setattr(worker, name, told(getattr(worker, name)))


def _death(error: Exception) -> Death:
    """Of a rank whose process survives, which the engine does not."""
    kind = type(error).__name__
    found = recognize(kind, str(error))
    said = f"a step failed: {kind}: {found.line}"[: 2 * MOST_COLUMNS]
    return Death(kind, said, found.advice or "Its log on that node holds the whole error.")

"""Garbage collection around graph capture."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ascend_serve.node.imports import uncollected


@contextmanager
def uncollected_capture(*, again: bool) -> Iterator[None]:
    """Capture without looking for garbage, look once then, and not at what is left in the collections to come.

    vLLM does the first itself (``freeze_gc_for_cudagraph_capture``, 0.32.0; ``freeze_gc``, 0.23.0), but then looks at
    all that imports have made, a million objects and 0.4 s, and leaves them to each full collection while it serves.
    Its variable has it leave that to us; it looks once before the first capture all the same.

    Args:
        again: Whether there were graphs before, which may be garbage by then.
    """
    os.environ["VLLM_ENABLE_CUDAGRAPH_GC"] = "1"
    if again:
        gc.unfreeze()
    with uncollected():
        try:
            yield
        finally:
            gc.collect()

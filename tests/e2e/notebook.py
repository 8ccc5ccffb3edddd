"""What somebody does in a notebook, whose event loop runs already: two engines side by side, and a third one.

``python -m tests.e2e.notebook CONFIG`` prints what it saw as JSON on its last line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import ray

from ascend_serve import Engine
from ascend_serve.errors import AscendServeError

ONE_NPU = {
    "parallel.tensor_parallel_size": 1,
    "graph.mode": "FULL_DECODE_ONLY",
    "graph.capture_sizes": [1, 2],
    "emulated.npus": 2,
    "vllm.dtype": "float32",
}
REQUEST = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}
SEEDED = {"prompt": "Once upon a time, in several steps", "max_tokens": 4, "temperature": 1, "seed": 7}
"""Longer than a batch of the first engine, which takes it in several steps."""


def refusal(attempt: Callable[[], Any]) -> dict[str, Any]:
    started = time.monotonic()
    try:
        attempt()
    except AscendServeError as error:
        return {"problem": error.problem, "remedy": error.remedy, "seconds": time.monotonic() - started}
    raise AssertionError("nothing was refused")


async def cells(path: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    batches = {"a": 16, "b": 64, "c": 64}
    first, second, third = (
        Engine.from_config(path, ONE_NPU | {"model.served_name": name, "vllm.max_num_batched_tokens": tokens})
        for name, tokens in batches.items()
    )
    seen["before"] = refusal(lambda: first.generate("Hello"))
    first.start()
    seen["one text"] = [answer.error for answer in first.generate("Hello")]
    seen["first"] = [answer.text for answer in first.generate(REQUEST)]
    seen["seeded, in steps"] = [answer.text or answer.error for answer in first.generate(SEEDED)]
    seen["twice"] = refusal(first.start)
    second.start()
    seen["third"] = refusal(third.start)
    ticks, answering = 0, asyncio.create_task(asyncio.to_thread(second.generate, [REQUEST]))
    while not answering.done():
        ticks += 1
        await asyncio.sleep(0)
    seen["second"], seen["ticks"] = [answer.text for answer in answering.result()], ticks
    first.close()
    first.close()
    seen["second, once the first is closed"] = [answer.text for answer in second.generate([REQUEST])]
    seen["seeded"] = [answer.text or answer.error for answer in second.generate(SEEDED)]
    second.close()
    seen["cluster left"] = ray.is_initialized()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(cells(sys.argv[1]))))

"""Asks by the Python SDK of Anthropic, as `tests.e2e.sdks.sdk` says."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic

EXPECTED_MAJOR = sys.argv[2]


def ask(call: dict[str, Any]) -> dict[str, Any]:
    options = {"max_retries": call["tries"]} if "tries" in call else {}
    client = anthropic.Anthropic(base_url=call["url"], api_key="key", **options)
    time.sleep(call["delay"])
    begun = time.monotonic()
    try:
        answer = client.messages.create(model="demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=8)
    except anthropic.AnthropicError as error:
        return {"error": repr(error), "seconds": time.monotonic() - begun}
    return {"tokens": answer.usage.output_tokens, "seconds": time.monotonic() - begun}


assert anthropic.__version__.split(".")[0] == EXPECTED_MAJOR, anthropic.__version__
calls = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(calls)) as pool:
    print("ready", flush=True)
    input()
    print(json.dumps(list(pool.map(ask, calls))))

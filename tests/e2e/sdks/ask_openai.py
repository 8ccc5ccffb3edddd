"""Asks by the Python SDK of OpenAI, as `tests.e2e.sdks.sdk` says."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

EXPECTED_MAJOR = sys.argv[2]


def ask(call: dict[str, Any]) -> dict[str, Any]:
    options = {"max_retries": call["tries"]} if "tries" in call else {}
    client = openai.OpenAI(base_url=f"{call['url']}/v1", api_key="key", **options)
    time.sleep(call["delay"])
    begun = time.monotonic()
    try:
        answer = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
        )
    except openai.OpenAIError as error:
        return {"error": repr(error), "seconds": time.monotonic() - begun}
    assert answer.usage is not None
    return {"tokens": answer.usage.completion_tokens, "seconds": time.monotonic() - begun}


assert openai.__version__.split(".")[0] == EXPECTED_MAJOR, openai.__version__
calls = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(calls)) as pool:
    print("ready", flush=True)
    input()
    print(json.dumps(list(pool.map(ask, calls))))

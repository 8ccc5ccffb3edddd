"""A program with an engine of the library, whose cluster is lost: what its methods do then.

    python -m tests.e2e.lost_engine CONFIG PROCESS

kills ``PROCESS`` of the cluster (``raylet``, ``gcs_server``, or one of Ray's actors by its title) while requests are
answered, and prints what the method raised, after how many seconds, and how many it took to close.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import psutil

import ascend_serve
from ascend_serve.errors import AscendServeError


def main(config: str, name: str) -> None:
    """Run it, and print a line of JSON."""
    request = {"prompt": "Hello", "max_tokens": 200, "ignore_eos": True}
    engine = ascend_serve.Engine.from_config(config).start()
    (victim,) = [process for process in psutil.Process().children(recursive=True) if _title(process).startswith(name)]
    killed = time.monotonic() + 2.0
    threading.Timer(2.0, victim.kill).start()
    said: dict[str, object] = {}
    try:
        while True:
            engine.generate([request] * 4)
    except AscendServeError as error:
        said = {"kind": type(error).__name__, "problem": error.problem, "record": error.record}
    raised = time.monotonic()
    engine.close()
    closed = time.monotonic()
    print("SAID", json.dumps(said | {"seconds": raised - killed, "closing": closed - raised}))


def _title(process: psutil.Process) -> str:
    return process.name() if process.name() in ("raylet", "gcs_server") else " ".join(process.cmdline())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Prints what torch_npu does in every case, as one line of JSON; each case has a process of its own."""

from __future__ import annotations

import json
import os
import traceback

import torch  # noqa: F401 - once, before the forks

from tests.conformance import backends
from tests.conformance.cases import CASES, Case


def in_a_child(case: Case) -> str:
    """The observation of ``case`` in a forked process, as JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = json.dumps(case(backends.torch_npu()))
        except BaseException:
            told = json.dumps({"case failed": traceback.format_exc()})
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read()
    _, status = os.waitpid(child, 0)
    return told or json.dumps({"process ended": status})


if __name__ == "__main__":
    print(json.dumps({name: json.loads(in_a_child(case)) for name, case in CASES.items()}))

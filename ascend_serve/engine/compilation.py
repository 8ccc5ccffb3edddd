"""The start message of static kernel compilation, recognised among the warnings of a worker.

npugraph_ex compiles kernels for fixed shapes while graphs are captured, which takes minutes to tens of minutes. All it
says is a Python warning, one for a single rank and another for several (torch_npu 2.10.0.post4,
``dynamo/npugraph_ex/_acl_concrete_graph/static_kernel.py``).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SINGLE_RANK = "Starting static kernel compilation, the build directory is "
SEVERAL_RANKS = ": starting static kernel compilation for multi card, the build directory is "
"""What stands in it after the rank."""

_STARTED = re.compile(rf"(?:{re.escape(SINGLE_RANK)}|Rank \d+{re.escape(SEVERAL_RANKS)})(.+)")


@contextmanager
def watch_static_kernels(tell: Callable[[str], None]) -> Iterator[None]:
    """While it lasts, call ``tell`` with the build directory of each compilation that starts; warnings stay visible."""
    show = warnings.showwarning

    def recognise(message: Warning | str, *args: Any, **options: Any) -> None:
        if found := _STARTED.fullmatch(str(message)):
            tell(found[1])
        show(message, *args, **options)

    warnings.showwarning = recognise
    try:
        yield
    finally:
        warnings.showwarning = show

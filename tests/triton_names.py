"""What kernels of vLLM ask of Triton's language, by their sources, against what the emulated NPU has of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ascend_serve.emulated.triton_language import LANGUAGE, LIBRARY

_USES = re.compile(r"(?<![\w.])(tl|tldevice)\.(\w+)")
_NAMES = {"tl": LANGUAGE, "tldevice": LIBRARY}


def missing(folders: Iterable[Path]) -> Iterator[str]:
    """Each name that is used below the folders and is not there, with the file."""
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            for module, name in dict.fromkeys(_USES.findall(file.read_text(encoding="utf-8"))):
                if name not in _NAMES[module]:
                    yield f"{file.relative_to(folder)}: {module}.{name}"

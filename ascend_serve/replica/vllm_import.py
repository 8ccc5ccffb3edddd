"""Whether vLLM can be used in this environment, in words that a user can act on."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ascend_serve.errors import AscendServeError, EngineError, chain_of
from ascend_serve.node.vllm_packages import BREAKS_IMPORTS, INSTALL


def check_vllm() -> None:
    """Make sure that vLLM is installed here; it is not imported, which takes many seconds.

    Raises:
        EngineError: It is not.
    """
    if find_spec("vllm") is None:
        raise EngineError(f"vLLM is not installed in {sys.prefix}, and this command needs it", INSTALL)


def explained(error: Exception) -> AscendServeError:
    """What a failed import of vLLM comes to: which package is in the way, and what to do.

    Args:
        error: What the import raised.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == "vllm":
        return EngineError(f"vLLM is not installed in {sys.prefix} on this node", INSTALL)
    said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    culprit = next((name for name in BREAKS_IMPORTS if name in _packages(error)), None)
    if culprit is None:
        return EngineError(f"vLLM cannot be imported: {said}", f"Install what it needs. {INSTALL}")
    return EngineError(
        f"vLLM cannot be imported, because the installed {culprit} does not fit the installed torch: {said}",
        f"`pip uninstall {culprit}`: vLLM and transformers import it only where it is there. "
        f"Or install the {culprit} that was built for this torch.",
    )


def _packages(error: Exception) -> set[str]:
    """Names of the folders that the frames of an error and of its causes come from."""
    return {part for file in _files(error) for part in file.parts}


def _files(error: Exception) -> Iterator[Path]:
    for each in chain_of(error):
        yield from (Path(frame.filename) for frame in traceback.extract_tb(each.__traceback__))

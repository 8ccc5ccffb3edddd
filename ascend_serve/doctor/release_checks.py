"""What a node has, against the release matrix. The set-up of a node asks the same before it installs anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, fail, ok, warn
from ascend_serve.node.vllm_packages import INSTALL
from ascend_serve.releases import (
    ARCHITECTURES,
    MINIMUM_HDK,
    OLDEST_GLIBC,
    Release,
    at_least,
    known_releases,
    public,
    release_of,
    starts_with,
)

ReleaseCheck = Callable[[NodeFacts, Release | None], Finding]
"""A check of a node against a row of the matrix, or against none where no release of it is installed."""


def installed_row(facts: NodeFacts) -> Release | None:
    """The row of the release that is installed on a node."""
    return release_of(facts.packages.get("vllm-ascend", ""))


def check_processor(facts: NodeFacts, row: Release | None) -> Finding:
    """Processor and C library, which upstream's wheels are made for."""
    if facts.processor not in ARCHITECTURES:
        return fail(f"processor {facts.processor}", f"upstream has wheels for {' and '.join(ARCHITECTURES)} alone")
    if not at_least(facts.glibc, OLDEST_GLIBC):
        fix = "use a newer system (Ubuntu 22.04, openEuler 24.03), or vllm-ascend's image"
        return fail(f"glibc {facts.glibc or 'missing'}, older than {OLDEST_GLIBC}", fix)
    return ok(f"{facts.processor}, glibc {facts.glibc}")


def check_python(facts: NodeFacts, row: Release | None) -> Finding:
    """The interpreter against those that the release supports."""
    if row is not None and not row.supports_python(facts.python):
        text = f"Python {facts.python}, but vllm-ascend {row.vllm_ascend} supports {row.pythons}"
        return fail(text, f"make the environment with Python {row.newest_python}")
    return ok(f"Python {facts.python}")


def check_hdk(facts: NodeFacts, row: Release | None) -> Finding:
    """The driver's version against the minimum for graph capture, and against what the release names."""
    if facts.hdk is None:
        return fail("no driver version found", "mount /usr/local/Ascend/driver into the container")
    if not at_least(facts.hdk, MINIMUM_HDK):
        return fail(f"HDK {facts.hdk}, older than {MINIMUM_HDK}", "upgrade driver and firmware of this node")
    if row is not None and not at_least(facts.hdk, row.hdk):
        text = f"HDK {facts.hdk}, but vllm-ascend {row.vllm_ascend} was made with {row.hdk}"
        return warn(text, "upgrade driver and firmware of this node if operators fail")
    return ok(f"HDK {facts.hdk}")


def check_cann(facts: NodeFacts, row: Release | None) -> Finding:
    """CANN's version against the row."""
    if facts.cann is None:
        return fail("no CANN toolkit found", "install CANN, or use the vllm-ascend image and source its set_env.sh")
    if row is not None and not starts_with(facts.cann, row.cann_line):
        text = f"CANN {facts.cann}, but vllm-ascend {row.vllm_ascend} needs {row.cann_line}"
        return fail(text, f"install CANN {row.cann}")
    return ok(f"CANN {facts.cann}")


RELEASE_CHECKS: Mapping[str, ReleaseCheck] = MappingProxyType(
    {"processor": check_processor, "python": check_python, "hdk": check_hdk, "cann": check_cann}
)
"""What a release needs of a node before any of its packages is there, by the name of the check."""


def check_packages(facts: NodeFacts, *, emulated: bool) -> Finding:
    """torch, torch_npu, vLLM and vllm-ascend against the matrix, and what breaks their import.

    Args:
        facts: Of the node.
        emulated: Whether the NPUs are emulated, so that the vendor's packages are not needed.
    """
    if facts.broken_packages:
        return _break_imports(facts.broken_packages)
    if emulated:
        return _check_installed(facts, ("torch", "vllm"))
    installed = _check_installed(facts, ("torch", "torch_npu", "vllm", "vllm-ascend"))
    return installed if installed.fix else _check_release(facts, installed)


def _check_release(facts: NodeFacts, installed: Finding) -> Finding:
    plugin, row = facts.packages["vllm-ascend"], installed_row(facts)
    if row is None:
        text = f"vllm-ascend {plugin} is not in the release matrix ({known_releases()})"
        return warn(text, "expect differences, or use one of them")
    wrong = {name: wanted for name, wanted in row.packages.items() if public(facts.packages[name]) != wanted}
    if wrong:
        found = ", ".join(f"{name} {facts.packages[name]} (needs {wanted})" for name, wanted in wrong.items())
        return fail(f"vllm-ascend {plugin} with {found}", f"`ascend-serve install {row.vllm_ascend}` there")
    return _check_companions(facts, row) or installed


def _check_companions(facts: NodeFacts, row: Release) -> Finding | None:
    """What a release starts without, and then fails with some models; 310P has no triton-ascend."""
    left_out = {"triton-ascend"} if any(device.name.startswith("310") for device in facts.npu_smi.devices) else set()
    wrong = [
        f"{name} {facts.packages.get(name, 'is missing')} (wants {wanted})"
        for name, wanted in row.companions.items()
        if name not in left_out and public(facts.packages.get(name, "")) != wanted
    ]
    if not wrong:
        return None
    text = f"vllm-ascend {row.vllm_ascend} with {', '.join(wrong)}"
    return warn(text, f"`ascend-serve install {row.vllm_ascend}` installs what it wants")


def check_runtime_package(facts: NodeFacts, name: RuntimeName, *, asked: bool) -> Finding:
    """The package of a graph runtime, which is needed where the configuration asks for the runtime.

    Args:
        facts: Of the node.
        name: Of the runtime.
        asked: Whether the configuration asks for it.
    """
    package, row = RUNTIMES[name].package, installed_row(facts)
    found, wanted = facts.packages.get(package, ""), row.runtime_packages.get(package, "") if row else ""
    install = f"pip install --no-deps {package}=={wanted}" if wanted else RUNTIMES[name].install
    if not asked:
        return ok(f"{package} {found}" if found else f"not installed; only graph.runtime={name} needs it")
    if not found:
        return fail(f"graph.runtime={name}, but {package} is not installed", install)
    if row is not None and wanted and public(found) != wanted:
        return warn(f"{package} {found}, but vllm-ascend {row.vllm_ascend} was tested with {wanted}", install)
    return ok(f"{package} {found}")


def _break_imports(packages: Mapping[str, str]) -> Finding:
    found = "; ".join(f"{name} cannot be imported, and neither can vLLM: {error}" for name, error in packages.items())
    return fail(found, f"pip uninstall {' '.join(packages)}, or install those that were built for this torch")


def _check_installed(facts: NodeFacts, names: tuple[str, ...]) -> Finding:
    missing = [name for name in names if name not in facts.packages]
    if missing:
        return fail(f"not installed: {', '.join(missing)}", INSTALL)
    return ok(", ".join(f"{name} {facts.packages[name]}" for name in names))

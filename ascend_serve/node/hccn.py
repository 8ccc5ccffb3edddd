"""Reading ``hccn_tool``: the network port of each NPU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ConfigDict

from ascend_serve.node.tool import ToolStatus, run_tool

_FIELDS = {
    "address": (("-ip", "-g"), re.compile(r"ipaddr:\s*(\S+)")),
    "link": (("-link", "-g"), re.compile(r"link status:\s*(\S+)")),
    "net_health": (("-net_health", "-g"), re.compile(r"net health status:\s*(.+)")),
    "netdetect": (("-netdetect", "-g"), re.compile(r"netdetect address:\s*(\S+)")),
    "gateway": (("-gateway", "-g"), re.compile(r"default gateway:\s*([^,\s]+)")),
}
_NO_PORT = re.compile(r"not support", re.IGNORECASE)
_MODULE = re.compile(r"present\s*:\s*(\w.*)")
_LOSS = re.compile(r"([\d.]+)% packet loss")


class LinkFacts(BaseModel):
    """The network port of one NPU; ``None`` where the tool named no value.

    Attributes:
        device: Number of the device, as ``hccn_tool -i`` takes it.
        address: Address of the port.
        link: ``UP`` or ``DOWN``.
        net_health: ``Success``, ``Init`` (nothing to probe yet), ``Fault`` and other failures.
        netdetect: Address that the health check probes; ``0.0.0.0`` when not configured.
        gateway: Default gateway of the port.
        module: ``present`` or ``not present``: the optical module, asked for where the link is not up.
        message: The tool's own words where it named no state of the link.
    """

    model_config = ConfigDict(frozen=True)

    device: int
    address: str | None = None
    link: str | None = None
    net_health: str | None = None
    netdetect: str | None = None
    gateway: str | None = None
    module: str | None = None
    message: str = ""

    @property
    def no_port(self) -> str:
        """Why there is no network that the link could be up to; empty where there is one, or nobody knows.

        310P has no port of its own, and NPUs of one node may do with HCCS and have no optical modules.
        """
        if self.link is None and _NO_PORT.search(self.message):
            return "no network port"
        return "no optical module" if self.module == "not present" else ""


class HccnFacts(BaseModel):
    """What ``hccn_tool`` says on one node."""

    model_config = ConfigDict(frozen=True)

    status: ToolStatus = ToolStatus.MISSING
    message: str = ""
    links: tuple[LinkFacts, ...] = ()


def parse_field(field: str, text: str) -> str | None:
    """The value of one field of :class:`LinkFacts` in the output of the query for it."""
    match = _FIELDS[field][1].search(text)
    return match.group(1).strip() if match else None


def parse_packet_loss(text: str) -> float | None:
    """Percent of packets lost, in the output of ``hccn_tool -i N -ping -g address A``."""
    match = _LOSS.search(text)
    return float(match.group(1)) if match else None


def ping(device: int, address: str, timeout: float) -> float | None:
    """Percent of packets lost from ``device`` to another NPU's ``address``; ``None`` when the tool cannot say."""
    return parse_packet_loss(
        run_tool(["hccn_tool", "-i", str(device), "-ping", "-g", "address", address], timeout).text
    )


def query(devices: Sequence[int], timeout: float) -> HccnFacts:
    """Ask ``hccn_tool`` about the ports of ``devices``; each call of the tool may take ``timeout`` seconds."""
    probe = run_tool(["hccn_tool", "-i", str(devices[0] if devices else 0), "-link", "-g"], timeout)
    if probe.status is ToolStatus.MISSING or not devices:
        return HccnFacts(status=probe.status, message=probe.text.strip()[:300])
    with ThreadPoolExecutor(max_workers=8) as pool:
        links = tuple(pool.map(lambda device: _link(device, timeout), devices))
    return HccnFacts(status=probe.status, message=probe.text.strip()[:300], links=links)


def _link(device: int, timeout: float) -> LinkFacts:
    said = {field: _ask(device, options, timeout) for field, (options, _) in _FIELDS.items()}
    values = {field: parse_field(field, text) for field, text in said.items()}
    if values["link"] == "UP":
        return LinkFacts(device=device, **values)
    module = _MODULE.search(_ask(device, ("-optical", "-g"), timeout))
    message = "" if values["link"] else said["link"].strip()[:300]
    return LinkFacts(device=device, **values, module=module[1].strip() if module else None, message=message)


def _ask(device: int, options: Sequence[str], timeout: float) -> str:
    return run_tool(["hccn_tool", "-i", str(device), *options], timeout).text

"""Reading ``npu-smi``: the devices of a node and how they are shared.

Layouts read: ``npu-smi info`` of driver 23.0 to 26.1 on 310P, 910 (A1), 910B (A2), 910C (A3) and 950, which has the
number and the name in columns of their own and one chip a card, and ``npu-smi info -t info-vnpu``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from ascend_serve.node.tool import ToolStatus, run_tool

_VERSION = re.compile(r"npu-smi\s+(\S+)\s+Version:")
_TEMPLATE = re.compile(r"vir\d+\w*")
_USAGE = re.compile(r"(\d+)\s*/\s*(\d+)")


class NpuDevice(BaseModel):
    """One chip in ``npu-smi info``.

    Attributes:
        npu_id: Card number, as ``npu-smi -i`` takes it.
        chip_id: Chip on the card.
        phy_id: Number of the device on the host, as ``hccn_tool -i`` takes it; the card's number on cards of one chip.
        name: Product name; a vNPU's name ends with its template.
        health: ``OK``, ``Warning``, ``Alarm``, ``Critical`` or ``UNKNOWN``.
        memory_mb: Device memory in MB: HBM where there is some, else DDR.
        memory_used_mb: Part of it in use.
    """

    model_config = ConfigDict(frozen=True)

    npu_id: int
    chip_id: int
    phy_id: int
    name: str
    health: str
    memory_mb: int = 0
    memory_used_mb: int = 0


class Vnpu(BaseModel):
    """One virtual NPU cut out of a chip."""

    model_config = ConfigDict(frozen=True)

    npu_id: int
    vnpu_id: int
    template: str


class NpuSmiFacts(BaseModel):
    """What ``npu-smi`` says on one node.

    Attributes:
        status: Whether the tool answered.
        message: The tool's own words where it failed.
        version: Version of the tool, which is the driver's.
        devices: Chips, in the tool's order.
        vnpus: Virtual NPUs created on the chips, as the host sees them.
    """

    model_config = ConfigDict(frozen=True)

    status: ToolStatus = ToolStatus.MISSING
    message: str = ""
    version: str | None = None
    devices: tuple[NpuDevice, ...] = ()
    vnpus: tuple[Vnpu, ...] = ()

    @property
    def template(self) -> str | None:
        """The vNPU template inside a container that was given a virtual NPU, for example ``vir04``."""
        found = (_TEMPLATE.search(device.name) for device in self.devices)
        return next((match.group() for match in found if match), None)


def parse_version(text: str) -> str | None:
    """The version in the head of ``npu-smi info``, or ``None``."""
    match = _VERSION.search(text)
    return match.group(1) if match else None


def parse_devices(text: str) -> tuple[NpuDevice, ...]:
    """The chips in the device table of ``npu-smi info``; empty when there is no such table."""
    rows = list(_device_rows(text))
    return tuple(_device(upper, lower) for upper, lower in zip(rows[::2], rows[1::2], strict=False))


def _device_rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and "Process id" in line:
            return
        if line.startswith("|") and len(cells) == 4:
            cells = _of_one_chip(cells)
        if line.startswith("|") and len(cells) == 3 and cells[0][:1].isdigit():
            yield cells


def _of_one_chip(cells: list[str]) -> list[str]:
    """A row of the layout with four columns as one with three: its second row leaves out the chip."""
    number, name, *rest = cells
    chip = "0" if _USAGE.search(cells[-1]) else ""
    return [f"{number} {name}" if number else chip, *rest]


def _device(upper: list[str], lower: list[str]) -> NpuDevice:
    npu_id, name = upper[0].split(None, 1)
    chip, *phy = lower[0].split()
    usages = _USAGE.findall(lower[2])
    used, total = max(usages, key=lambda usage: int(usage[1]), default=("0", "0"))
    return NpuDevice(
        npu_id=int(npu_id),
        chip_id=int(chip),
        phy_id=int(phy[0]) if phy else int(npu_id),
        name=name,
        health=upper[1],
        memory_mb=int(total),
        memory_used_mb=int(used),
    )


def parse_vnpus(text: str, npu_id: int) -> tuple[Vnpu, ...]:
    """The virtual NPUs in ``npu-smi info -t info-vnpu -i NPU -c CHIP``."""
    _, _, table = text.partition("Vnpu ID")
    rows = (re.split(r"\s*\|\s*", line.strip().strip("|").strip()) for line in table.splitlines())
    return tuple(
        Vnpu(npu_id=npu_id, vnpu_id=int(row[0]), template=row[4]) for row in rows if len(row) == 5 and row[0].isdigit()
    )


def query(timeout: float) -> NpuSmiFacts:
    """Ask ``npu-smi`` on this node; each call of the tool may take ``timeout`` seconds."""
    info = run_tool(["npu-smi", "info"], timeout)
    devices = parse_devices(info.text)
    vnpus: list[Vnpu] = []
    for device in devices:
        command = ["npu-smi", "info", "-t", "info-vnpu", "-i", str(device.npu_id), "-c", str(device.chip_id)]
        vnpus += parse_vnpus(run_tool(command, timeout).text, device.npu_id)
    message = "" if info.status is ToolStatus.OK else info.text.strip()[:300]
    return NpuSmiFacts(
        status=info.status, message=message, version=parse_version(info.text), devices=devices, vnpus=tuple(vnpus)
    )

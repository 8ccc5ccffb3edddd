"""What a probe learns about one node."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ascend_serve.node.hccn import HccnFacts
from ascend_serve.node.machine import MachineFacts
from ascend_serve.node.model_files import ModelFacts
from ascend_serve.node.npu_smi import NpuSmiFacts


class ProbeRequest(BaseModel):
    """What to look at on a node besides the node itself.

    Attributes:
        model_path: Model folder, or ``None`` to look at none.
        ports: TCP ports that should be free.
        tool_timeout: Seconds that one call of a vendor's tool may take.
    """

    model_config = ConfigDict(frozen=True)

    model_path: str | None = None
    ports: tuple[int, ...] = ()
    tool_timeout: float = 10.0


class NodeFacts(BaseModel):
    """What a probe learned about one node.

    Attributes:
        node_id: Ray's id; empty outside a cluster.
        address: The address other nodes reach this one at.
        hostname: Its name.
        interface: Network interface that carries ``address``, or ``None`` when no interface does.
        addresses: Addresses by interface.
        npu_smi: What ``npu-smi`` says.
        hccn: What ``hccn_tool`` says.
        device_files: Number of ``/dev/davinci<N>`` files.
        vnpu_template: Template of the virtual NPU this container was given, or ``None``.
        hdk: Version of the driver package, or ``None``.
        cann: Version of the CANN toolkit, or ``None``.
        python: Version of the interpreter.
        processor: Name of the processor's architecture, as ``uname -m`` has it.
        glibc: Version of the C library; empty where it is another one.
        packages: Installed version by package; packages that are not installed are left out.
        broken_packages: Error by package, of those beside vLLM that are installed and cannot be imported.
        env: Variables that steer Ascend, HCCL, Gloo and Ray, as a Ray worker on the node has them.
        machine: What a start needs of it.
        model: The model folder, if one was asked for.
        busy_ports: Ports asked for that are taken.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    node_id: str = ""
    address: str
    hostname: str
    interface: str | None = None
    addresses: dict[str, tuple[str, ...]] = {}
    npu_smi: NpuSmiFacts = NpuSmiFacts()
    hccn: HccnFacts = HccnFacts()
    device_files: int = 0
    vnpu_template: str | None = None
    hdk: str | None = None
    cann: str | None = None
    python: str
    processor: str = ""
    glibc: str = ""
    packages: dict[str, str] = {}
    broken_packages: dict[str, str] = {}
    env: dict[str, str] = {}
    machine: MachineFacts = MachineFacts()
    model: ModelFacts | None = None
    busy_ports: tuple[int, ...] = ()

    @property
    def num_npus(self) -> int:
        """NPUs that the driver or the device files show."""
        return len(self.npu_smi.devices) or self.device_files

    @property
    def own_addresses(self) -> frozenset[str]:
        """Every address of this node."""
        return frozenset(address for addresses in self.addresses.values() for address in addresses) | {self.address}

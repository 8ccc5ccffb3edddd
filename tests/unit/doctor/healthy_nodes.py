"""Nodes for the tests of this folder."""

from __future__ import annotations

from typing import Any

from ascend_serve.doctor.cluster_probe import ClockOffset, NodeProbe
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.hccn import HccnFacts, LinkFacts
from ascend_serve.node.machine import MachineFacts
from ascend_serve.node.npu_smi import NpuDevice, NpuSmiFacts
from ascend_serve.node.tool import ToolStatus

MACHINE = MachineFacts(
    shm_bytes=16 << 30,
    shm_free_bytes=16 << 30,
    compiler_path="/usr/bin/g++",
    python_header="/usr/include/python3.11/Python.h",
)

PACKAGES = {
    "ascend-serve": "0.1.0",
    "ray": "2.60.0",
    "torch": "2.10.0",
    "transformers": "5.5.4",
    "triton-ascend": "3.2.2",
    "torch_npu": "2.10.0.post4",
    "vllm": "0.23.0",
    "vllm-ascend": "0.23.0.post1",
}


def devices(count: int = 2, health: str = "OK", name: str = "910B3") -> NpuSmiFacts:
    found = tuple(NpuDevice(npu_id=i, chip_id=0, phy_id=i, name=name, health=health) for i in range(count))
    return NpuSmiFacts(status=ToolStatus.OK, version="25.5.1", devices=found)


def link(device: int, **changes: Any) -> LinkFacts:
    healthy = {"address": f"10.9.0.{device}", "link": "UP", "net_health": "Success", "netdetect": "10.9.0.254"}
    return LinkFacts(device=device, **{**healthy, **changes})


def node_facts(**changes: Any) -> NodeFacts:
    """A healthy node with two NPUs."""
    healthy: dict[str, Any] = {
        "node_id": "a" * 56,
        "address": "10.0.0.1",
        "hostname": "node1",
        "interface": "eth0",
        "addresses": {"lo": ("127.0.0.1",), "eth0": ("10.0.0.1",)},
        "npu_smi": devices(),
        "hccn": HccnFacts(status=ToolStatus.OK, links=(link(0), link(1))),
        "hdk": "25.5.1",
        "cann": "9.1.0",
        "python": "3.11.7",
        "processor": "aarch64",
        "glibc": "2.35",
        "packages": PACKAGES,
        "machine": MACHINE,
    }
    return NodeFacts(**{**healthy, **changes})


def node_probe(facts: NodeFacts | None = None, **changes: Any) -> NodeProbe:
    """A probe of a healthy node that offers its two NPUs to Ray."""
    facts = facts or node_facts()
    answered: dict[str, Any] = {
        "node_id": facts.node_id,
        "address": facts.address,
        "resources": {"CPU": 64.0, "NPU": 2.0},
        "facts": facts,
        "clock": ClockOffset(seconds=0.01, error=0.01),
    }
    return NodeProbe(**{**answered, **changes})

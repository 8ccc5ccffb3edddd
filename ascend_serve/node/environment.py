"""The environment of the workers on one node: what differs per node is computed, what the user sets wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, fail, warn

VISIBLE_DEVICES = "ASCEND_RT_VISIBLE_DEVICES"
NOSET_VISIBLE_DEVICES = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"
INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
PER_NODE_VARIABLES = ("HCCL_IF_IP", "HCCL_SOCKET_IFNAME", *INTERFACE_VARIABLES, VISIBLE_DEVICES)
"""Variables whose right value differs from node to node; all others must be equal on all nodes."""


@dataclass(frozen=True, slots=True)
class NodeEnvironment:
    """The environment of the workers on one node.

    Attributes:
        env: Variables to set.
        findings: What is wrong with the values that the user set.
    """

    env: Mapping[str, str]
    findings: tuple[Finding, ...] = ()


def node_environment(facts: NodeFacts, user_env: Mapping[str, str]) -> NodeEnvironment:
    """Compute the environment of the workers on one node.

    ``user_env`` wins over what is set on the node, and that wins over what is computed here. ``HCCL_IF_IP`` is
    not computed where ``HCCL_SOCKET_IFNAME`` is set, because HCCL would prefer the address to the interface.

    Args:
        facts: The node.
        user_env: What the user sets for all nodes, for example in the configuration.
    """
    chosen = {name: value for name, value in facts.env.items() if name in PER_NODE_VARIABLES} | dict(user_env)
    computed = _computed(facts)
    if "HCCL_SOCKET_IFNAME" in chosen:
        computed.pop("HCCL_IF_IP", None)
    return NodeEnvironment(env=computed | chosen, findings=_check(facts, chosen, computed))


def _computed(facts: NodeFacts) -> dict[str, str]:
    env = {"HCCL_IF_IP": facts.address, NOSET_VISIBLE_DEVICES: "1"}
    if facts.interface:
        env |= dict.fromkeys(INTERFACE_VARIABLES, facts.interface)
    if facts.num_npus:
        env[VISIBLE_DEVICES] = ",".join(map(str, range(facts.num_npus)))
    return env


def _check(facts: NodeFacts, chosen: Mapping[str, str], computed: Mapping[str, str]) -> tuple[Finding, ...]:
    checks = (_address, _interfaces, _visible_devices, _noset, _launch_blocking)
    return tuple(finding for check in checks for finding in check(facts, chosen, computed))


def _address(facts: NodeFacts, chosen: Mapping[str, str], computed: Mapping[str, str]) -> list[Finding]:
    address = chosen.get("HCCL_IF_IP")
    if address is None or address in facts.own_addresses:
        return []
    return [
        fail(
            f"HCCL_IF_IP={address} is not an address of this node",
            f"unset HCCL_IF_IP (it becomes {facts.address}) or set it to an address of this node before `ray start`",
        )
    ]


def _interfaces(facts: NodeFacts, chosen: Mapping[str, str], computed: Mapping[str, str]) -> list[Finding]:
    return [
        fail(
            f"{name}={chosen[name]} names no interface of this node (it has {', '.join(sorted(facts.addresses))})",
            f"unset {name}" + (f" (it becomes {computed[name]})" if name in computed else ""),
        )
        for name in INTERFACE_VARIABLES
        if name in chosen and not _names_interface(chosen[name], facts)
    ]


def _names_interface(value: str, facts: NodeFacts) -> bool:
    """Whether every name of Gloo's comma-separated list is an interface of the node."""
    return all(name.strip() in facts.addresses for name in value.split(","))


def _visible_devices(facts: NodeFacts, chosen: Mapping[str, str], computed: Mapping[str, str]) -> list[Finding]:
    value = chosen.get(VISIBLE_DEVICES)
    if value is None or not facts.num_npus:
        return []
    devices = [device.strip() for device in value.split(",")]
    allowed = [str(device) for device in range(facts.num_npus)]
    if len(set(devices)) == len(devices) and set(devices) <= set(allowed):
        return []
    return [
        fail(
            f"{VISIBLE_DEVICES}={value!r}, but this node's devices are 0 to {facts.num_npus - 1}, each at most once",
            f"unset {VISIBLE_DEVICES} (it becomes {','.join(allowed)})",
        )
    ]


def _noset(facts: NodeFacts, chosen: Mapping[str, str], computed: Mapping[str, str]) -> list[Finding]:
    value = chosen.get(NOSET_VISIBLE_DEVICES, "1")
    if value.lower() in ("1", "true"):
        return []
    return [
        fail(
            f"{NOSET_VISIBLE_DEVICES}={value}: Ray would hide devices from the workers, which number them themselves",
            f"unset {NOSET_VISIBLE_DEVICES} or set it to 1",
        )
    ]


def _launch_blocking(facts: NodeFacts, chosen: Mapping[str, str], computed: Mapping[str, str]) -> list[Finding]:
    if (dict(facts.env) | dict(chosen)).get("ASCEND_LAUNCH_BLOCKING") != "1":
        return []
    return [
        warn("ASCEND_LAUNCH_BLOCKING=1 cannot be combined with ACLGraph", "unset it, or set graph.mode=NONE to debug")
    ]

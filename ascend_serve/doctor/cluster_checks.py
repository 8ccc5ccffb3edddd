"""The checks of a whole cluster: what must be equal on all nodes, and whether the deployment fits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ascend_serve.cluster.placement import NPU, NodeOffer, counted, placement_bundles
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.doctor.cluster_probe import NodeProbe
from ascend_serve.errors import ClusterError
from ascend_serve.node.environment import NOSET_VISIBLE_DEVICES, PER_NODE_VARIABLES
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, fail, merge, ok, warn
from ascend_serve.node.probe import PACKAGES


@dataclass(frozen=True, slots=True)
class ClusterCheck:
    """One check of the cluster: its name and the function that runs it."""

    name: str
    run: Callable[[Sequence[NodeProbe], AscendServeConfig | None], Finding]


def run_cluster_checks(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> list[tuple[str, Finding]]:
    """Run the table on all nodes."""
    return [(check.name, check.run(probes, config)) for check in CLUSTER_CHECKS]


def check_equal_versions(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> Finding:
    """Versions of packages, Python, CANN and driver, which one process group cannot mix."""
    values: dict[str, Callable[[NodeFacts], str | None]] = {
        "Python": lambda facts: ".".join(facts.python.split(".")[:2]),
        "CANN": lambda facts: facts.cann,
        "HDK": lambda facts: facts.hdk,
        **{name: _package(name) for name in PACKAGES},
    }
    findings = [
        fail(f"{name} differs: {spread}", f"install the same {name} on all nodes")
        for name, value in values.items()
        if (spread := _spread(probes, value))
    ]
    return merge(findings, ok("equal on all nodes"))


def _package(name: str) -> Callable[[NodeFacts], str | None]:
    return lambda facts: facts.packages.get(name)


def _spread(probes: Sequence[NodeProbe], value: Callable[[NodeFacts], str | None]) -> str:
    """Who has which value, as text; empty when all nodes that answered have the same."""
    holders: dict[str, list[str]] = defaultdict(list)
    for probe in probes:
        if probe.facts is not None:
            holders[value(probe.facts) or "missing"].append(_name(probe))
    if len(holders) < 2:
        return ""
    return ", ".join(f"{found} on {' and '.join(names)}" for found, names in sorted(holders.items()))


def _name(probe: NodeProbe) -> str:
    """Address of a node, with the start of its id, since nodes on one machine share the address."""
    return f"{probe.address} ({probe.node_id[:8]})" if probe.node_id else probe.address


def check_equal_variables(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> Finding:
    """Variables that all nodes must share, for example ``HCCL_OP_EXPANSION_MODE``."""
    own = {*PER_NODE_VARIABLES, NOSET_VISIBLE_DEVICES, "ASCEND_VNPU_SPECS", "ASCEND_VISIBLE_DEVICES"}
    names = sorted({name for probe in probes if probe.facts for name in probe.facts.env} - own)
    findings = [
        fail(f"{name} differs: {spread}", f"set {name} to one value on all nodes before `ray start`")
        for name in names
        if (spread := _spread(probes, _variable(name)))
    ]
    return merge(findings, ok("equal on all nodes"))


def _variable(name: str) -> Callable[[NodeFacts], str | None]:
    return lambda facts: facts.env.get(name)


def check_equal_devices(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> Finding:
    """Products in one cluster: graphs and kernels are made for one of them."""
    names = {device.name for probe in probes if probe.facts for device in probe.facts.npu_smi.devices}
    if len(names) > 1:
        return warn(f"different products: {', '.join(sorted(names))}", "serve each replica on nodes of one product")
    return ok(f"all {names.pop()}" if names else "no devices")


def check_equal_model(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> Finding:
    """The model folder, file by file."""
    folders = {_name(probe): probe.facts.model for probe in probes if probe.facts and probe.facts.model}
    readable = {name: folder for name, folder in folders.items() if folder.digest}
    if len({folder.digest for folder in readable.values()}) < 2:
        return ok("equal on all nodes that have it" if readable else "no configuration given")
    different = _different_files({name: folder.files for name, folder in readable.items()})
    what = ", ".join(different) if different else "config.json or the safetensors index"
    return fail(f"model folders differ in {what} ({', '.join(readable)})", "copy the same folder to all nodes")


def _different_files(folders: Mapping[str, Mapping[str, int]]) -> list[str]:
    names = {name for files in folders.values() for name in files}
    return sorted(name for name in names if len({files.get(name) for files in folders.values()}) > 1)


def check_placement(probes: Sequence[NodeProbe], config: AscendServeConfig | None) -> Finding:
    """Whether one replica of the configuration fits, going by what the nodes offer in total."""
    in_cluster = [probe for probe in probes if probe.resources is not None]
    if config is None or not in_cluster:
        return ok("no configuration given" if config is None else "no cluster to place a replica on")
    try:
        placement = placement_bundles(config.parallel, [_offer(probe) for probe in in_cluster])
    except ClusterError as error:
        return fail(error.problem, error.remedy)
    fits = ok(f"{counted(len(placement.nodes), 'rank')} on {counted(len(set(placement.nodes)), 'node')}")
    return merge([warn(note, "make tensor_parallel_size divide each node's NPUs") for note in placement.notes], fits)


def _offer(probe: NodeProbe) -> NodeOffer:
    resources = probe.resources or {}
    npus, gpus = int(resources.get(NPU, 0)), int(resources.get("GPU", 0))
    return NodeOffer(node_id=probe.node_id, address=probe.address, npus=npus, gpus=gpus)


CLUSTER_CHECKS = (
    ClusterCheck("versions", check_equal_versions),
    ClusterCheck("variables", check_equal_variables),
    ClusterCheck("devices", check_equal_devices),
    ClusterCheck("model", check_equal_model),
    ClusterCheck("placement", check_placement),
)
"""All checks of the cluster, in the order of the table."""

"""The checks of one node, as a table of pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ascend_serve.cluster.placement import NPU
from ascend_serve.config.combinations import compiles_on_host
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.doctor import release_checks
from ascend_serve.doctor.cluster_probe import NodeProbe
from ascend_serve.errors import ModelError, PlanError
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.rules import resolve
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.node.environment import NOSET_VISIBLE_DEVICES, node_environment
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, fail, merge, ok, warn
from ascend_serve.node.hccn import LinkFacts
from ascend_serve.node.machine import MACHINE_CHECKS, MachineCheck, Need
from ascend_serve.node.model_files import check_model_files
from ascend_serve.node.tool import ToolStatus
from ascend_serve.planning.situation import read_situation
from ascend_serve.releases import MINIMUM_RAY, at_least

MAX_CLOCK_SKEW = 1.0
"""Seconds between two clocks from which logs of several nodes can no longer be read together."""

HCCL_PORTS = tuple(range(60000, 60032))
"""TCP ports that HCCL takes on the host when HCCL_IF_BASE_PORT is not set (CANN's documentation, 8.2 and later)."""

_HCCL_PORT_VARIABLES = ("HCCL_IF_BASE_PORT", "HCCL_HOST_SOCKET_PORT_RANGE")

_FEW_STREAMS = "use graph.mode=FULL_DECODE_ONLY with few sizes"

_EMULATED = ok("not needed: the NPUs are emulated")


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What the checks of a node have to know besides the node.

    Attributes:
        config: The configuration to be served, if one was given.
        ray_version: Ray on this machine.
        address: Address of this machine, whose HTTP port the server takes.
        multi_node: Whether the cluster has several nodes.
        emulated: Whether the NPUs are emulated, so that the vendor's tools and packages are not needed.
    """

    config: AscendServeConfig | None
    ray_version: str
    address: str
    multi_node: bool
    emulated: bool


@dataclass(frozen=True, slots=True)
class NodeCheck:
    """One check of a node: its name and the function that runs it; ``on_device`` ones are left out on emulated NPUs."""

    name: str
    run: Callable[[NodeProbe, NodeFacts, CheckContext], Finding]
    on_device: bool = False


def run_node_checks(probe: NodeProbe, context: CheckContext) -> list[tuple[str, Finding]]:
    """Run the table on one node; a node that did not answer gets that one line."""
    if probe.facts is None:
        return [("node", _silent(probe))]
    return [(check.name, _run(check, probe, probe.facts, context)) for check in NODE_CHECKS]


def _run(check: NodeCheck, probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    return _EMULATED if check.on_device and context.emulated else check.run(probe, facts, context)


def _silent(probe: NodeProbe) -> Finding:
    missing = "No module named" in probe.problem
    fix = "install the same ascend-serve on every node" if missing else "see `ray status` and the raylet's log there"
    return fail(f"did not answer the probe: {probe.problem}", fix)


def check_ray(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """Ray's version against this machine's and the minimum."""
    version, ours = facts.packages.get("ray", ""), context.ray_version
    if version != ours:
        return fail(
            f"Ray {version or 'missing'}, but {ours} on this machine", f"pip install 'ray[serve]=={ours}' there"
        )
    if not at_least(version, MINIMUM_RAY):
        return fail(f"Ray {version}, older than {MINIMUM_RAY}", "upgrade Ray on all nodes")
    return ok(f"Ray {version}")


def check_resource(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """The ``NPU`` resource that Ray offers against the devices that are there."""
    if probe.resources is None:
        return ok("not in a Ray cluster")
    offered, gpus = int(probe.resources.get(NPU, 0)), int(probe.resources.get("GPU", 0))
    restart = f"ray start ... --resources '{{\"NPU\": {facts.num_npus or gpus or '<devices>'}}}'"
    if gpus and not offered:
        return fail(f"advertises {gpus} GPU and no NPU", f"restart this node's Ray without --num-gpus: {restart}")
    if not offered and not facts.num_npus:
        return ok("no NPU and no device: a node without NPUs")
    if context.emulated or offered == facts.num_npus:
        return ok(f"{offered} NPU")
    return fail(
        f"Ray offers {offered} NPU, but {facts.num_npus} devices are here", f"restart this node's Ray: {restart}"
    )


def check_devices(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """Devices and their health in ``npu-smi info``."""
    smi = facts.npu_smi
    if smi.status is ToolStatus.MISSING:
        return fail("npu-smi is not on PATH", "install the driver, or mount /usr/local/bin/npu-smi into the container")
    if not smi.devices:
        return fail(
            f"npu-smi shows no device ({smi.message.splitlines()[0] if smi.message else 'empty table'})",
            "check the driver with `npu-smi info` on the host; give the container /dev/davinci<N>, "
            "/dev/davinci_manager, /dev/devmm_svm and /dev/hisi_hdc",
        )
    sick = [
        f"NPU {device.npu_id} chip {device.chip_id}: {device.health}" for device in smi.devices if device.health != "OK"
    ]
    if sick:
        return fail(", ".join(sick), "see `npu-smi info -t health -i <NPU>`; reset or take the device out of Ray")
    return ok(f"{len(smi.devices)} x {smi.devices[0].name}, all healthy")


def check_vnpu(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """Virtual NPUs: streams are shared, so piecewise graphs are out and budgets are smaller."""
    template = facts.vnpu_template
    if template is None:
        shared = len(facts.npu_smi.vnpus)
        return ok(f"{shared} vNPU cut out of this host's devices" if shared else "whole devices")
    if context.config is not None:
        return _graphs_on_vnpu(template, context.config)
    return warn(f"vNPU {template}: containers share the device's streams", _FEW_STREAMS)


def _graphs_on_vnpu(template: str, config: AscendServeConfig) -> Finding:
    """What the rules of graph mode make of the configuration on a soft partition, and whether they are told of one."""
    try:
        asked = read_situation(config, {})
        shared, _ = resolve(replace(asked, soft_partitioned=True))
    except ModelError as error:
        return warn(f"vNPU {template}, and what graphs it gets is not known: {error.problem}", error.remedy)
    except PlanError as error:
        return fail(f"vNPU {template}: {error.problem}", error.remedy)
    mode = f"graph.mode={config.graph.mode}"
    if resolve(asked)[0].has_pieces:
        return fail(
            f"vNPU {template} with {mode}: hardware.stream_quota is not set, so piecewise graphs would be captured",
            "set hardware.stream_quota to the streams of the container, or graph.mode=FULL_DECODE_ONLY",
        )
    narrowed = "" if shared.mode is config.graph.mode else f"; {mode} becomes {shared.mode}"
    return warn(f"vNPU {template}: containers share the device's streams{narrowed}", _FEW_STREAMS)


def check_links(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """Link and network health of each NPU's port; on one node a broken port only warns."""
    if facts.hccn.status is ToolStatus.MISSING:
        return _broken(context, "hccn_tool is not on PATH", "mount /usr/local/Ascend/driver/tools and add it to PATH")
    links = facts.hccn.links
    if not links and facts.num_npus:
        return warn("no port was asked: npu-smi shows no device", "see the line `devices`")
    absent = sorted({link.no_port for link in links if link.no_port})
    if absent and len(absent) == 1 and all(link.no_port for link in links):
        return _within_a_node(absent[0], len(links), context)
    problems = [finding for link in links for finding in _link_findings(link, context)]
    return merge(problems, ok(f"{len(links)} links up and healthy"))


def _within_a_node(why: str, count: int, context: CheckContext) -> Finding:
    """NPUs that can talk to those of their own node alone, which is all that one node needs."""
    text = f"{why} on any of {count} NPUs"
    if not context.multi_node:
        return ok(f"{text}: those of this node talk over HCCS or PCIe")
    fix = "keep the ranks of each engine on one node (tensor x pipeline parallel size up to the NPUs of a node)"
    return fail(f"{text}: they cannot reach the NPUs of other nodes", f"{fix}, or put optical modules in")


def _link_findings(link: LinkFacts, context: CheckContext) -> list[Finding]:
    device = f"device {link.device}"
    if link.link is None:
        said = f", hccn_tool says: {link.message.splitlines()[0]}" if link.message else ""
        return [_broken(context, f"{device}: link unknown{said}", f"run `hccn_tool -i {link.device} -link -g` there")]
    if link.no_port:
        return [_broken(context, f"{device}: link {link.link}, {link.no_port}", "put one in, or take it from another")]
    if link.link != "UP":
        text = f"{device}: link {link.link}"
        return [_broken(context, text, "check cable and optical module; `hccn_tool -i <N> -link -g`")]
    findings = []
    if link.address is None:
        fix = "set it with `hccn_tool -i <N> -ip -s address A netmask M`"
        findings.append(_broken(context, f"{device}: no address", fix))
    if link.net_health == "Init":
        fix = "set one with `hccn_tool -i <N> -netdetect -s address A`"
        findings.append(warn(f"{device}: network health unknown, no netdetect address", fix))
    elif link.net_health != "Success":
        text = f"{device}: network health {link.net_health or 'unknown'}"
        fix = f"check that {link.netdetect or 'the netdetect address'} and gateway {link.gateway or 'none'} are right"
        findings.append(_broken(context, text, fix))
    return findings


def _broken(context: CheckContext, text: str, fix: str) -> Finding:
    return fail(text, fix) if context.multi_node else warn(text, fix)


def check_pings(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """Packets between NPUs of neighbouring nodes."""
    if not probe.pings:
        return ok("nothing to ping: one node, or no NPU addresses")
    lost = [f"device {ping.device} to {ping.address}: {_loss(ping.loss)}" for ping in probe.pings if ping.loss != 0.0]
    if lost:
        fix = "check switches and VLANs; `hccn_tool -i <N> -ping -g address A`"
        return fail(", ".join(lost), fix)
    return ok(f"{len(probe.pings)} NPUs reach the next node")


def _loss(percent: float | None) -> str:
    return "no answer" if percent is None else f"{percent:g}% lost"


def check_packages(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """torch, torch_npu, vLLM and vllm-ascend against the release matrix, and what breaks their import."""
    return release_checks.check_packages(facts, emulated=context.emulated)


def _of_release(name: str, check: release_checks.ReleaseCheck) -> NodeCheck:
    """A check that the set-up of a node makes too, against the release that is installed."""
    return NodeCheck(name, lambda probe, facts, context: check(facts, release_checks.installed_row(facts)), True)


def _package_of_runtime(name: RuntimeName) -> NodeCheck:
    """Looks for the package of a graph runtime."""

    def run(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
        asked = context.config is not None and context.config.graph.runtime is name
        return release_checks.check_runtime_package(facts, name, asked=asked)

    return NodeCheck(name.value, run, on_device=True)


def check_environment(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """HCCL, Gloo and device variables that the user set on the node."""
    environment = node_environment(facts, {})
    shown = ", ".join(f"{name}={value}" for name, value in environment.env.items() if name != NOSET_VISIBLE_DEVICES)
    if facts.interface is None:
        text = f"no interface carries {facts.address}"
        return merge([*environment.findings, warn(text, "set GLOO_SOCKET_IFNAME and TP_SOCKET_IFNAME")], ok(shown))
    return merge(environment.findings, ok(shown))


def _on_machine(check: MachineCheck) -> NodeCheck:
    """A check that every start makes on its own machine, made on a node."""

    def run(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
        ranks = int((probe.resources or {}).get(NPU, 0)) or facts.num_npus or 1
        compiles = context.config is not None and compiles_on_host(context.config)
        return check.run(facts.machine, Need(ranks, compiles, local=probe.resources is None))

    return NodeCheck(check.name, run)


def check_model(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """The model folder on this node."""
    return ok("no folder to look at") if facts.model is None else check_model_files(facts.model)


def check_ports(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """The HTTP port on this machine, and the ports that HCCL takes on every node."""
    http = context.config.serving.port if context.config else None
    findings = []
    if http in facts.busy_ports and facts.address == context.address:
        findings.append(fail(f"port {http} (serving.port) is taken", "stop what listens there, or set serving.port"))
    taken = sorted(set(facts.busy_ports) & set(HCCL_PORTS))
    if taken and not context.emulated and not any(name in facts.env for name in _HCCL_PORT_VARIABLES):
        text = f"ports {', '.join(map(str, taken))} are taken, which HCCL uses"
        findings.append(warn(text, "set HCCL_IF_BASE_PORT on all nodes, or reserve 60000-60031"))
    return merge(findings, ok("free"))


def check_clock(probe: NodeProbe, facts: NodeFacts, context: CheckContext) -> Finding:
    """This node's clock against this machine's."""
    clock = probe.clock
    if clock is None:
        return ok("nothing to compare with")
    if abs(clock.seconds) - clock.error > MAX_CLOCK_SKEW:
        return warn(f"clock is {clock.seconds:+.1f} s off", "run chrony or ntpd on all nodes")
    return ok(f"within {abs(clock.seconds) + clock.error:.2f} s")


NODE_CHECKS = (
    NodeCheck("ray", check_ray),
    NodeCheck("resource", check_resource),
    NodeCheck("devices", check_devices, on_device=True),
    NodeCheck("vnpu", check_vnpu, on_device=True),
    NodeCheck("links", check_links, on_device=True),
    NodeCheck("ping", check_pings, on_device=True),
    *(_of_release(name, check) for name, check in release_checks.RELEASE_CHECKS.items()),
    NodeCheck("packages", check_packages),
    *(_package_of_runtime(name) for name, traits in RUNTIMES.items() if traits.package),
    NodeCheck("environment", check_environment),
    *map(_on_machine, MACHINE_CHECKS),
    NodeCheck("model", check_model),
    NodeCheck("ports", check_ports),
    NodeCheck("clock", check_clock),
)
"""All checks of a node, in the order of the table."""

from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.doctor.cluster_probe import ClockOffset, NodeProbe, Ping
from ascend_serve.doctor.node_checks import HCCL_PORTS, NODE_CHECKS, CheckContext, run_node_checks
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, Status
from ascend_serve.node.hccn import HccnFacts
from ascend_serve.node.machine import MachineFacts
from ascend_serve.node.model_files import ModelFacts
from ascend_serve.node.npu_smi import NpuSmiFacts, Vnpu
from ascend_serve.node.tool import ToolStatus
from tests.unit.doctor.healthy_nodes import PACKAGES, devices, link, node_facts, node_probe


def config(**sections: Any) -> AscendServeConfig:
    return AscendServeConfig.model_validate({"model": {"path": "/models/m"}, **sections})


def context(config: AscendServeConfig | None = None, *, nodes: int = 2, emulated: bool = False) -> CheckContext:
    return CheckContext(
        config=config, ray_version="2.60.0", address="10.0.0.1", multi_node=nodes > 1, emulated=emulated
    )


def lines(probe: NodeProbe, at: CheckContext) -> dict[str, Finding]:
    return dict(run_node_checks(probe, at))


def links(*found: Any) -> HccnFacts:
    return HccnFacts(status=ToolStatus.OK, links=found)


def without(*packages: str) -> dict[str, str]:
    return {name: version for name, version in PACKAGES.items() if name not in packages}


def test_a_healthy_node_passes_every_check() -> None:
    model = ModelFacts(path="/models/m", files={"config.json": 9}, digest="d")
    facts = node_facts(model=model, packages={**PACKAGES, "xlite": "0.2.0rc4"})
    found = lines(node_probe(facts, pings=(Ping(device=0, address="10.9.0.7", loss=0.0),)), context(config()))
    assert list(found) == [check.name for check in NODE_CHECKS]
    assert {name: finding for name, finding in found.items() if finding.status is not Status.OK or finding.fix} == {}


BROKEN_NODES = [
    ("ray", {"packages": {**PACKAGES, "ray": "2.49.0"}}, Status.FAIL, "2.49.0", "pip install 'ray[serve]==2.60.0'"),
    ("devices", {"npu_smi": NpuSmiFacts()}, Status.FAIL, "not on PATH", "driver"),
    (
        "devices",
        {"npu_smi": NpuSmiFacts(status=ToolStatus.FAILED, message="dcmi module initialize failed. ret is -8005")},
        Status.FAIL,
        "-8005",
        "/dev/davinci_manager",
    ),
    (
        "devices",
        {"npu_smi": devices(health="Critical")},
        Status.FAIL,
        "NPU 0 chip 0: Critical",
        "npu-smi info -t health",
    ),
    ("vnpu", {"vnpu_template": "vir04"}, Status.WARN, "vir04", "FULL_DECODE_ONLY"),
    ("links", {"hccn": HccnFacts()}, Status.FAIL, "not on PATH", "tools"),
    ("links", {"hccn": links(link(0, link="DOWN"), link(1))}, Status.FAIL, "device 0: link DOWN", "cable"),
    ("links", {"hccn": links(link(0, link=None))}, Status.FAIL, "link unknown", "hccn_tool"),
    ("links", {"hccn": links(link(0, address=None))}, Status.FAIL, "device 0: no address", "-ip -s"),
    ("links", {"hccn": links(link(0, net_health="Fault"))}, Status.FAIL, "network health Fault", "10.9.0.254"),
    ("links", {"hccn": links(link(0, net_health="Init"))}, Status.WARN, "no netdetect address", "-netdetect -s"),
    ("processor", {"processor": "riscv64"}, Status.FAIL, "riscv64", "x86_64 and aarch64"),
    ("processor", {"glibc": "2.31"}, Status.FAIL, "2.31, older than 2.34", "Ubuntu 22.04"),
    ("python", {"python": "3.13.1"}, Status.FAIL, "supports 3.10 to 3.12", "Python 3.12"),
    (
        "hdk",
        {"packages": {**PACKAGES, "vllm-ascend": "0.30.0rc2"}},
        Status.WARN,
        "HDK 25.5.1, but vllm-ascend 0.30.0rc2 was made with 26.0",
        "upgrade",
    ),
    (
        "cann",
        {"packages": {**PACKAGES, "vllm-ascend": "0.30.0rc2"}},
        Status.FAIL,
        "CANN 9.1.0, but vllm-ascend 0.30.0rc2 needs 9.2",
        "install CANN 9.2.0",
    ),
    ("hdk", {"hdk": None}, Status.FAIL, "no driver version", "/usr/local/Ascend/driver"),
    ("hdk", {"hdk": "25.3.rc1"}, Status.FAIL, "25.3.rc1, older than 25.5.1", "upgrade"),
    ("cann", {"cann": None}, Status.FAIL, "no CANN", "set_env.sh"),
    ("cann", {"cann": "8.5.0"}, Status.FAIL, "8.5.0", "install CANN 9.1"),
    ("packages", {"packages": without("torch_npu")}, Status.FAIL, "not installed: torch_npu", "vllm-ascend"),
    (
        "packages",
        {"broken_packages": {"torchvision": "RuntimeError: operator torchvision::nms does not exist"}},
        Status.FAIL,
        "torchvision cannot be imported, and neither can vLLM: RuntimeError: operator torchvision::nms does not exist",
        "pip uninstall torchvision",
    ),
    (
        "packages",
        {"packages": {**PACKAGES, "torch": "2.9.0+cpu"}},
        Status.FAIL,
        "torch 2.9.0+cpu (needs 2.10.0)",
        "ascend-serve install 0.23.0.post1",
    ),
    (
        "packages",
        {"packages": {**PACKAGES, "torch_npu": "2.9.0"}},
        Status.FAIL,
        "torch_npu 2.9.0",
        "ascend-serve install 0.23.0.post1",
    ),
    (
        "packages",
        {"packages": without("triton-ascend")},
        Status.WARN,
        "vllm-ascend 0.23.0.post1 with triton-ascend is missing (wants 3.2.2)",
        "ascend-serve install 0.23.0.post1",
    ),
    ("packages", {"packages": {**PACKAGES, "triton-ascend": "3.2.0"}}, Status.WARN, "triton-ascend 3.2.0 (", "install"),
    ("packages", {"packages": {**PACKAGES, "transformers": "5.14.1"}}, Status.WARN, "(wants 5.5.4)", "install 0.23.0"),
    ("packages", {"packages": {**PACKAGES, "vllm-ascend": "0.31.0"}}, Status.WARN, "0.31.0", "use one of them"),
    ("environment", {"env": {"HCCL_IF_IP": "10.0.0.9"}}, Status.FAIL, "10.0.0.9", "10.0.0.1"),
    ("environment", {"interface": None}, Status.WARN, "no interface carries", "GLOO_SOCKET_IFNAME"),
    ("shared memory", {"machine": MachineFacts(shm_bytes=64 << 20)}, Status.FAIL, "64 MiB", "--shm-size"),
    ("temporary folder", {"machine": MachineFacts(temporary="/" + 71 * "t")}, Status.FAIL, "too long", "ray start"),
    ("ports", {"busy_ports": (60000, 60003)}, Status.WARN, "60000, 60003", "HCCL_IF_BASE_PORT"),
]


def test_npus_without_triton_miss_none() -> None:
    facts = node_facts(packages=without("triton-ascend"), npu_smi=devices(name="310P3"))
    assert lines(node_probe(facts), context())["packages"].status is Status.OK


@pytest.mark.parametrize(
    ("check", "changes", "status", "text", "fix"),
    [pytest.param(*case, id=f"{case[0]}: {case[3]}") for case in BROKEN_NODES],
)
def test_names_what_is_broken_and_the_fix(
    check: str, changes: dict[str, Any], status: Status, text: str, fix: str
) -> None:
    found = lines(node_probe(node_facts(**changes)), context())[check]
    assert found.status is status
    assert text in found.text
    assert fix in found.fix


@pytest.mark.parametrize(
    ("resources", "num_npus", "status", "words"),
    [
        pytest.param(None, 2, Status.OK, "not in a Ray cluster", id="no cluster"),
        pytest.param({"NPU": 2.0}, 2, Status.OK, "2 NPU", id="all devices"),
        pytest.param({"CPU": 8.0}, 0, Status.OK, "without NPUs", id="head without NPUs"),
        pytest.param({"GPU": 8.0}, 8, Status.FAIL, "8 GPU and no NPU", id="GPU instead of NPU"),
        pytest.param({"GPU": 4.0}, 0, Status.FAIL, "without --num-gpus", id="GPU and no driver"),
        pytest.param({"NPU": 1.0}, 2, Status.FAIL, "offers 1 NPU, but 2 devices", id="fewer than there are"),
        pytest.param({"CPU": 8.0}, 2, Status.FAIL, "--resources '{\"NPU\": 2}'", id="none of them"),
        pytest.param({"NPU": 2.0}, 0, Status.FAIL, "but 0 devices", id="none there"),
    ],
)
def test_compares_the_resource_with_the_devices(
    resources: dict[str, float] | None, num_npus: int, status: Status, words: str
) -> None:
    probe = node_probe(node_facts(npu_smi=devices(num_npus)), resources=resources)
    found = lines(probe, context())["resource"]
    assert found.status is status
    assert words in found.text + found.fix


def test_a_broken_link_only_warns_on_one_node() -> None:
    probe = node_probe(node_facts(hccn=links(link(0, link="DOWN"))))
    assert lines(probe, context(nodes=1))["links"].status is Status.WARN


@pytest.mark.parametrize(
    ("loss", "words"), [(None, "no answer"), (33.33, "33.33% lost"), (100.0, "100% lost")], ids=str
)
def test_names_npus_that_do_not_reach_the_next_node(loss: float | None, words: str) -> None:
    pings = (Ping(device=0, address="10.9.0.7", loss=0.0), Ping(device=1, address="10.9.0.8", loss=loss))
    found = lines(node_probe(pings=pings), context())["ping"]
    assert found.status is Status.FAIL
    assert found.text == f"device 1 to 10.9.0.8: {words}"


QUOTA = {"stream_quota": 512}


@pytest.mark.parametrize(
    ("sections", "status", "text", "fix"),
    [
        pytest.param({"hardware": QUOTA}, Status.WARN, "becomes FULL_DECODE_ONLY", "few sizes", id="narrowed by plan"),
        pytest.param(
            {"hardware": QUOTA, "graph": {"mode": "PIECEWISE"}},
            Status.FAIL,
            "graph.mode PIECEWISE takes a stream for each piece",
            "FULL_DECODE_ONLY",
            id="refused by plan",
        ),
        pytest.param({}, Status.FAIL, "hardware.stream_quota is not set", "stream_quota", id="plan knows of no quota"),
        pytest.param({"graph": {"mode": "FULL_DECODE_ONLY"}}, Status.WARN, "share the", "few sizes", id="no pieces"),
        pytest.param({"graph": {"runtime": "eager"}}, Status.WARN, "becomes NONE", "few sizes", id="eager"),
        pytest.param({"model": {"path": "/models/m"}}, Status.WARN, "is not known", "model's folder", id="no model"),
    ],
)
def test_a_virtual_npu_is_judged_as_plan_does(sections: dict[str, Any], status: Status, text: str, fix: str) -> None:
    probe = node_probe(node_facts(vnpu_template="vir04"))
    found = lines(probe, context(config(**{"model": {"path": "/models/Qwen3-8B"}, **sections})))["vnpu"]
    assert found.status is status
    assert text in found.text
    assert fix in found.fix


def test_a_host_that_cut_its_devices_is_no_virtual_npu() -> None:
    smi = devices().model_copy(update={"vnpus": (Vnpu(npu_id=0, vnpu_id=100, template="vir04"),)})
    found = lines(node_probe(node_facts(npu_smi=smi)), context())["vnpu"]
    assert found.status is Status.OK
    assert "1 vNPU" in found.text


@pytest.mark.parametrize(
    ("runtime", "installed", "status", "words"),
    [
        pytest.param("xlite", "", Status.FAIL, "is not installed", id="missing"),
        pytest.param("xlite", "0.2.0rc4", Status.WARN, "tested with 0.1.0rc11.dev210", id="of another release"),
        pytest.param("xlite", "0.1.0rc11.dev210", Status.OK, "0.1.0rc11.dev210", id="of this release"),
        pytest.param("aclgraph", "", Status.OK, "only graph.runtime=xlite needs it", id="not asked for"),
    ],
)
def test_xlite_is_needed_only_where_it_is_asked_for(runtime: str, installed: str, status: Status, words: str) -> None:
    packages = {**PACKAGES, "xlite": installed} if installed else PACKAGES
    found = lines(node_probe(node_facts(packages=packages)), context(config(graph={"runtime": runtime})))["xlite"]
    assert found.status is status
    assert words in found.text
    assert ("pip install --no-deps xlite==0.1.0rc11.dev210" in found.fix) is (status is not Status.OK)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        pytest.param(ModelFacts(path="/models/m", problem="does not exist"), "/models/m does not exist", id="missing"),
        pytest.param(
            ModelFacts(path="/models/m", files={"model.safetensors": 9}, digest="d"),
            "no config.json",
            id="half a folder",
        ),
    ],
)
def test_names_a_model_folder_that_cannot_be_served(model: ModelFacts, words: str) -> None:
    found = lines(node_probe(node_facts(model=model)), context(config()))["model"]
    assert found.status is Status.FAIL
    assert words in found.text


def test_names_files_of_a_model_that_cannot_be_read_or_are_not_there() -> None:
    shards = tuple(f"model-{number}.safetensors" for number in range(5))
    model = ModelFacts(
        path="/models/m", files={"config.json": 9}, digest="d", unreadable=shards[:1], missing=shards[1:]
    )
    found = lines(node_probe(node_facts(model=model)), context(config()))["model"]
    assert found.status is Status.FAIL
    assert "may not read model-0.safetensors; " in found.text
    assert "lacks model-1.safetensors, model-2.safetensors, model-3.safetensors and 1 more" in found.text
    assert "chmod -R a+rX /models/m" in found.fix


@pytest.mark.parametrize(("address", "status"), [("10.0.0.1", Status.FAIL), ("10.0.0.2", Status.OK)])
def test_the_http_port_matters_on_this_machine_only(address: str, status: Status) -> None:
    probe = node_probe(node_facts(address=address, busy_ports=(8123,)))
    assert lines(probe, context(config(serving={"port": 8123})))["ports"].status is status


def test_ports_of_hccl_may_be_elsewhere() -> None:
    probe = node_probe(node_facts(busy_ports=HCCL_PORTS, env={"HCCL_IF_BASE_PORT": "50000"}))
    assert lines(probe, context())["ports"].status is Status.OK


@pytest.mark.parametrize(
    ("clock", "status"),
    [
        (None, Status.OK),
        (ClockOffset(seconds=-0.4, error=0.1), Status.OK),
        (ClockOffset(seconds=4.0, error=3.5), Status.OK),
        (ClockOffset(seconds=-90.0, error=0.1), Status.WARN),
    ],
    ids=["unknown", "close", "not sure", "far"],
)
def test_compares_clocks(clock: ClockOffset | None, status: Status) -> None:
    assert lines(node_probe(clock=clock), context())["clock"].status is status


@pytest.mark.parametrize(
    ("problem", "fix"),
    [("no answer within 60 s", "raylet's log"), ("ModuleNotFoundError: No module named 'ascend_serve'", "install")],
)
def test_a_silent_node_is_one_line(problem: str, fix: str) -> None:
    silent = NodeProbe(node_id="b", address="10.0.0.2", problem=problem)
    ((name, found),) = run_node_checks(silent, context())
    assert (name, found.status) == ("node", Status.FAIL)
    assert problem in found.text
    assert fix in found.fix


def test_emulated_npus_need_no_driver_and_no_vendor_package() -> None:
    bare: NodeFacts = node_facts(
        npu_smi=NpuSmiFacts(),
        hccn=HccnFacts(),
        hdk=None,
        cann=None,
        packages={"ray": "2.60.0", "torch": "2.13.0", "vllm": "0.32.0"},
    )
    found = lines(node_probe(bare), context(config(emulated={"npus": 2}), emulated=True))
    assert [name for name, finding in found.items() if finding.status is not Status.OK] == []

"""What the doctor says of the ports of NPUs, asked of stand-ins for the vendor's tools that answer as reported."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ascend_serve.doctor.node_checks import CheckContext, check_links
from ascend_serve.node import hccn, npu_smi
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, Status
from ascend_serve.node.tool import ToolStatus
from tests.unit.doctor.healthy_nodes import node_facts, node_probe

TOOLS = Path(__file__).parents[2] / "cases" / "hccn"


@dataclass(frozen=True)
class Told:
    """What the doctor should say of a situation."""

    status: Status
    text: str
    fix: str = ""


def links_of(facts: NodeFacts, nodes: int) -> Finding:
    context = CheckContext(config=None, ray_version="2.60.0", address="10.0.0.1", multi_node=nodes > 1, emulated=False)
    return check_links(node_probe(facts), facts, context)


@pytest.mark.parametrize(
    ("situation", "nodes", "told"),
    [
        pytest.param("310p_no_roce", 1, Told(Status.OK, "no network port on any of 3 NPUs"), id="310P has no RoCE"),
        pytest.param(
            "310p_no_roce", 2, Told(Status.FAIL, "cannot reach the NPUs of other", "on one node"), id="and needs it"
        ),
        pytest.param("a2_hccs_only", 1, Told(Status.OK, "no optical module on any of 2 NPUs"), id="HCCS is enough"),
        pytest.param(
            "a2_hccs_only", 2, Told(Status.FAIL, "no optical module", "put optical modules in"), id="HCCS is not"
        ),
        pytest.param("950", 1, Told(Status.OK, "2 links up and healthy"), id="950: all its ports are asked"),
        pytest.param("950", 2, Told(Status.OK, "2 links up and healthy"), id="950 in a cluster"),
        pytest.param(
            "a3_fault", 1, Told(Status.WARN, "device 14: network health Fault", "192.0.2.1"), id="not needed yet"
        ),
        pytest.param(
            "a3_fault", 2, Told(Status.FAIL, "device 15: network health Fault", "gateway 192.0.2.1"), id="a fault"
        ),
    ],
)
def test_ports_as_reported(situation: str, nodes: int, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(TOOLS / situation), prepend=":")
    smi = npu_smi.query(30)
    found = links_of(node_facts(npu_smi=smi, hccn=hccn.query([device.phy_id for device in smi.devices], 30)), nodes)
    assert (found.status, told.text in found.text, told.fix in found.fix) == (told.status, True, True), found
    assert "cable" not in found.fix


@pytest.mark.parametrize(
    ("link", "text", "fix"),
    [
        pytest.param(hccn.LinkFacts(device=3, message="hccn_tool is busy"), "hccn_tool is busy", "-i 3", id="no state"),
        pytest.param(hccn.LinkFacts(device=3, link="DOWN", module="present"), "link DOWN", "cable", id="a cable"),
        pytest.param(hccn.LinkFacts(device=3, link="DOWN", module="not present"), "no opt", "put one", id="a module"),
    ],
)
def test_one_port_of_several_is_blamed_for_what_it_has(link: hccn.LinkFacts, text: str, fix: str) -> None:
    healthy = node_facts().hccn
    facts = node_facts(hccn=healthy.model_copy(update={"links": (*healthy.links, link)}))
    found = links_of(facts, nodes=2)
    assert (found.status, text in found.text, fix in found.fix) == (Status.FAIL, True, True), found


def test_ports_that_nobody_could_ask_for_are_not_healthy() -> None:
    facts = node_facts(npu_smi=npu_smi.NpuSmiFacts(), hccn=hccn.HccnFacts(status=ToolStatus.OK), device_files=8)
    assert links_of(facts, nodes=1).status is Status.WARN

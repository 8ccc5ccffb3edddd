from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.node.npu_smi import NpuDevice, NpuSmiFacts, Vnpu, parse_devices, parse_version, parse_vnpus

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "version", "devices"),
    [
        pytest.param(
            "npu_smi_a2",
            "25.5.1",
            [(0, 0, 0, "910B3", "OK", 65536, 3381), (1, 0, 1, "910B3", "Alarm", 65536, 58211)],
            id="A2: one chip a card, process table ignored",
        ),
        pytest.param(
            "npu_smi_a3",
            "26.0.rc2",
            [
                (0, 0, 0, "Ascend910", "OK", 65536, 3301),
                (0, 1, 1, "Ascend910", "OK", 65536, 2790),
                (1, 0, 2, "Ascend910", "OK", 65536, 3299),
                (1, 1, 3, "Ascend910", "OK", 65536, 2791),
            ],
            id="A3: two chips a card, with Phy-ID",
        ),
        pytest.param("npu_smi_vnpu", "25.2.0", [(5, 0, 0, "310Pvir04", "OK", 10763, 871)], id="vNPU: no HBM column"),
        pytest.param("npu_smi_broken", None, [], id="driver not usable"),
    ],
)
def test_reads_info(name: str, version: str | None, devices: list[tuple[object, ...]]) -> None:
    fields = ("npu_id", "chip_id", "phy_id", "name", "health", "memory_mb", "memory_used_mb")
    text = sample(name)
    assert parse_version(text) == version
    assert [tuple(getattr(device, field) for field in fields) for device in parse_devices(text)] == devices


@pytest.mark.parametrize("text", ["", "| 0 |", "|||", "| 0     910B3 | OK | 1 |"], ids=repr)
def test_answers_no_device_for_half_a_table(text: str) -> None:
    assert parse_devices(text) == ()


def test_reads_virtual_npus() -> None:
    found = parse_vnpus(sample("npu_smi_info_vnpu"), npu_id=2)
    assert found == (
        Vnpu(npu_id=2, vnpu_id=132, template="vir05_1c_16g"),
        Vnpu(npu_id=2, vnpu_id=133, template="vir05_1c_16g"),
    )


def test_reads_no_virtual_npus_where_the_query_is_not_supported() -> None:
    assert parse_vnpus("This device does not support querying info-vnpu.\n", npu_id=0) == ()


@pytest.mark.parametrize(
    ("name", "template"), [("310Pvir04", "vir04"), ("910Bvir10_3c_32g", "vir10_3c_32g"), ("910B3", None)]
)
def test_names_the_template_of_a_virtual_npu(name: str, template: str | None) -> None:
    device = NpuDevice(npu_id=0, chip_id=0, phy_id=0, name=name, health="OK")
    assert NpuSmiFacts(devices=(device,)).template == template

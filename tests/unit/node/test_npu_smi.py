from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.node.npu_smi import NpuDevice, NpuSmiFacts, Vnpu, parse_devices, parse_version, parse_vnpus

SAMPLES = Path(__file__).parent / "samples"
REPORTED = Path(__file__).parents[2] / "cases" / "npu_smi"


def sample(name: str) -> str:
    return next(
        folder / f"{name}.txt" for folder in (SAMPLES, REPORTED) if (folder / f"{name}.txt").exists()
    ).read_text()


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
        pytest.param(
            "a1_910ProB_ddr_and_hbm",
            "24.1.0",
            [(0, 0, 0, "910ProB", "OK", 32768, 18)],
            id="A1: DDR beside HBM, and HBM is what models use",
        ),
        pytest.param(
            "a2_26_1_processes_in_container",
            "26.1.0",
            [(0, 0, 0, "910B3", "OK", 65536, 8676), (1, 0, 1, "910B3", "OK", 65536, 3403)],
            id="A2: a fifth column in the process table",
        ),
        pytest.param(
            "a3_health_warning_dash",
            "25.5.2",
            [(7, 0, 14, "Ascend910", "Warning", 65536, 63495), (7, 1, 15, "Ascend910", "OK", 65536, 62308)],
            id="A3: a dash for the power, a warning",
        ),
        pytest.param(
            "a5_950pr_25_7",
            "25.7.rc1",
            [(0, 0, 0, "Ascend950PR", "OK", 114688, 5413), (1, 0, 1, "Ascend950PR", "Alarm", 114688, 30492)],
            id="950: four columns, one chip a card",
        ),
        pytest.param(
            "duo_310p3_two_chips",
            "25.0.rc1.1",
            [
                (0, 0, 0, "310P3", "OK", 44280, 1609),
                (0, 1, 1, "310P3", "OK", 43693, 35556),
                (32768, 0, 2, "310P3", "OK", 21527, 1852),
            ],
            id="300I Duo: card 32768, Device for Phy-ID, huge pages full",
        ),
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

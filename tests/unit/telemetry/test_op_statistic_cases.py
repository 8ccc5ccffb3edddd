"""Files of operator statistics as they are met: what is read of each."""

from pathlib import Path

import pytest

from ascend_serve.errors import ProfileError
from ascend_serve.telemetry.op_statistic import find_statistics, read_statistic

PROFILES = Path(__file__).parents[2] / "cases" / "profiles"


@pytest.mark.parametrize(
    ("name", "operators", "share"),
    [
        pytest.param("op_statistic_bom_crlf.csv", [("MatMulV2", 120, 3500.5)], 0, id="byte order mark, CR LF"),
        pytest.param("op_statistic_gbk_excel.csv", [("MatMulV2", 120, 3500.5)], 0, id="saved in GBK by a spreadsheet"),
        pytest.param(
            "op_statistic_tab_na.csv",
            [("MatMulV2", 120, 3500.5), ("hcom_allReduce_", 0, 0.0)],
            0,
            id="a tab in a number, N/A for communication",
        ),
        pytest.param("op_statistic_tsv.csv", [("MatMulV2", 120, 3500.5)], 0, id="tabs between columns"),
        pytest.param(
            "kernel_details.csv",
            [("aclnnMatmul_MatMulV3Common_static_kernel_1", 1, 21.2)],
            1,
            id="a row for each call: the name has the mark",
        ),
    ],
)
def test_files_as_they_are_met(name: str, operators: list[tuple[str, int, float]], share: float) -> None:
    read = read_statistic(PROFILES / name)
    assert [(entry.name, entry.calls, entry.time) for entry in read.operators] == operators
    assert read.share_of_calls == share


def test_a_file_without_rows_is_no_proof_of_anything() -> None:
    with pytest.raises(ProfileError, match="has no rows"):
        read_statistic(PROFILES / "op_statistic_header_only.csv")


def test_a_profiler_folder_holds_the_same_numbers_twice() -> None:
    (file,) = find_statistics([PROFILES / "rank0_ascend_pt"])
    assert file.parent.name == "ASCEND_PROFILER_OUTPUT"
    assert read_statistic(file).share_of_calls == pytest.approx(2 / 3)


def test_calls_of_one_operator_are_summed(tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text("Name,Type,Duration(us)\na,A,1.5\nb_static_kernel,B,1\na,A,2.5\n")
    read = read_statistic(tmp_path / "k.csv")
    assert [(entry.name, entry.calls, entry.time) for entry in read.operators] == [
        ("a", 2, 4.0),
        ("b_static_kernel", 1, 1.0),
    ]

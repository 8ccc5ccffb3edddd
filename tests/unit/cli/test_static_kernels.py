from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from ascend_serve.cli.static_kernels import static_kernels
from ascend_serve.errors import ProfileError
from ascend_serve.telemetry.op_statistic import find_statistics, read_statistic

HEADER = "OP Type,Core Type,Count,Total Time(us),Min Time(us),Avg Time(us),Max Time(us),Ratio(%)\n"
STATIC = "MatMulV2_static_kernel_3f1,AI_CORE,30,600.0,19,20,22,60.0\n"
OTHER = "FusedInferAttentionScore,MIX_AIC,10,400.0,39,40,41,40.0\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(*paths: Path) -> Result:
    app = typer.Typer()
    app.command()(static_kernels)
    return CliRunner().invoke(app, [str(path) for path in paths])


def test_tells_operators_and_shares(tmp_path: Path) -> None:
    answer = run(write(tmp_path / "op_statistic.csv", HEADER + STATIC + OTHER))
    assert answer.exit_code == 0
    assert "1 of 2 operators, 75.0% of calls, 60.0% of time" in answer.stdout
    assert "MatMulV2_static_kernel_3f1" in answer.stdout


def test_says_what_to_do_when_they_are_not_active(tmp_path: Path) -> None:
    answer = run(write(tmp_path / "op_statistic.csv", HEADER + OTHER))
    assert answer.exit_code == 1
    assert "not active" in answer.stdout
    assert "graph.npugraph_ex.static_kernel" in answer.stdout


def test_one_rank_without_them_is_enough_for_no(tmp_path: Path) -> None:
    with_them = write(tmp_path / "rank0.csv", HEADER + STATIC)
    assert run(with_them).exit_code == 0
    assert run(with_them, write(tmp_path / "rank1.csv", HEADER + OTHER)).exit_code == 1


@pytest.mark.parametrize(
    ("header", "row"),
    [
        pytest.param(HEADER, STATIC, id="torch_npu"),
        pytest.param("\ufeff" + HEADER, STATIC, id="with a byte order mark"),
        pytest.param("Device_id,Model Name," + HEADER, "0,," + STATIC, id="msprof"),
        pytest.param("op_type,name,count,total_time\n", "MatMul,static_kernel_7,30,600\n", id="mark in the name"),
        pytest.param(
            "OP Type,Core Type,Count,Total Time\n", "MatMul_STATIC_KERNEL,AI_CORE,30,600\n", id="without units"
        ),
    ],
)
def test_reads_the_layouts_of_the_profilers(tmp_path: Path, header: str, row: str) -> None:
    (operator,) = read_statistic(write(tmp_path / "op_statistic.csv", header + row)).operators
    assert (operator.static, operator.calls, operator.time) == (True, 30, 600.0)


def test_searches_a_profiler_folder_and_counts_nothing_twice(tmp_path: Path) -> None:
    ours = [write(tmp_path / f"rank{rank}" / "ASCEND_PROFILER_OUTPUT" / "op_statistic.csv", HEADER) for rank in (0, 1)]
    write(tmp_path / "rank0" / "PROF_1" / "mindstudio_profiler_output" / "op_statistic_2026.csv", HEADER)
    assert find_statistics([tmp_path]) == ours


def test_takes_the_files_of_msprof_where_there_are_no_others(tmp_path: Path) -> None:
    file = write(tmp_path / "PROF_1" / "op_statistic_2026.csv", HEADER)
    assert find_statistics([tmp_path]) == [file]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "has no rows", id="empty"),
        pytest.param(HEADER, "has no rows", id="header only"),
        pytest.param(
            "OP Type,Count\nMatMul,3\n", "lacks the column Total Time(us) (it has OP Type, Count)", id="no time"
        ),
        pytest.param("a,b\n1,2\n", "lacks the column OP Type, Count, Total Time(us)", id="something else"),
        pytest.param(HEADER + "MatMul,AI_CORE,many,1\n", "'MatMul' has a value that is not a number", id="no number"),
        pytest.param(HEADER + "MatMul,AI_CORE\n", "'MatMul' has a value that is not a number", id="row cut short"),
    ],
)
def test_names_what_is_wrong_with_a_file(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path / "op_statistic.csv", text)
    with pytest.raises(ProfileError) as error:
        read_statistic(path)
    assert words in error.value.problem
    assert str(path) in error.value.problem
    assert "torch_npu.profiler" in error.value.remedy


def test_names_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "op_statistic.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ProfileError, match="cannot be read"):
        read_statistic(path)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_names_a_path_without_statistics(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProfileError, match=name) as error:
        find_statistics([tmp_path / name])
    assert error.value.exit_code == 2

"""Traces as they are published and exported: what is read of each, or which line is wrong."""

from itertools import pairwise
from pathlib import Path

import pytest

from ascend_serve.errors import ConfigError
from ascend_serve.graph.trace import TracedRequest, read_trace
from ascend_serve.planning.workload_file import read_workload

TRACES = Path(__file__).parents[2] / "cases" / "traces"


@pytest.mark.parametrize(
    ("name", "gaps", "lengths"),
    [
        pytest.param("azure_2023_conv.csv", [4.314579, 0.227298], [(374, 44), (396, 109), (879, 55)], id="Azure 2023"),
        pytest.param("azure_2024_code.csv", [0.007405, 0.982665], [(2162, 5), (2399, 6), (76, 12)], id="Azure 2024"),
        pytest.param("azure_bom_crlf.csv", [], [(374, 44)], id="byte order mark, CR LF"),
        pytest.param("bench_export.csv", [], [(100, 50)], id="vLLM's bench"),
        pytest.param("burstgpt_1.csv", [40, 73], [(472, 18), (1087, 230), (417, 276)], id="BurstGPT"),
        pytest.param("burstgpt_v2_sessions.csv", [40], [(472, 18), (1087, 0)], id="BurstGPT with sessions"),
        pytest.param("mooncake_as_csv_ms.csv", [3], [(6955, 52), (6472, 26)], id="Mooncake in CSV: milliseconds"),
        pytest.param("mooncake_trace.jsonl", [3], [(6955, 52), (6472, 26)], id="Mooncake: JSON lines, milliseconds"),
        pytest.param("vidur_trace.csv", [4.3], [(374, 44), (396, 109)], id="Vidur"),
    ],
)
def test_public_traces(name: str, gaps: list[float], lengths: list[tuple[int, int]]) -> None:
    requests = read_trace(read_workload(str(TRACES / name)), name)
    arrivals = [request.arrival for request in requests]
    assert [later - earlier for earlier, later in pairwise(arrivals)] == pytest.approx(gaps, abs=1e-5)
    assert [(request.input_tokens, request.output_tokens) for request in requests] == lengths


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("azure_blank_fields.csv", "line 4: contexttokens and generatedtokens has no value", id="blank"),
        pytest.param("mixed_dates_seconds.csv", "line 3: arrival 0.5 beside a date on the first row", id="mixed"),
    ],
)
def test_the_line_that_is_wrong_is_named(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_trace(read_workload(str(TRACES / name)), name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            'arrival,input_tokens,output_tokens,note\n0,1,1,"a\nb"\n0,x,1,\n', "line 4", id="a field of two lines"
        ),
        pytest.param('{"arrival": 0, "input_len": 1, "output_len": 2}\n\nnot json', "line 3: not a JSON", id="no JSON"),
        pytest.param('{"arrival": 0, "input_len": 1}', "output_tokens is missing", id="JSON without a field"),
        pytest.param(
            '{"arrival": 0, "input_len": 1, "output_len": null}', "line 1: output_len has no value", id="null"
        ),
        pytest.param("arrival,input_tokens,output_tokens\n0,inf,1\n", "line 2: cannot convert", id="infinite"),
        pytest.param("arrival,input_tokens,output_tokens\nnan,1,1\n", "line 2: arrival nan is no time", id="no time"),
        pytest.param("arrival,input_tokens,output_tokens\n", "holds no request", id="a header alone"),
        pytest.param("", "holds no request", id="nothing"),
        pytest.param("a,b\n", "arrival, input_tokens, output_tokens is missing .it has a, b.", id="other columns"),
    ],
)
def test_what_cannot_be_read(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_trace(text, "load.csv")


def test_tabs_and_blank_lines() -> None:
    text = "arrival\tinput_tokens\toutput_tokens\n\n1.5\t10\t2\n\n"
    assert read_trace(text, "load.tsv") == [TracedRequest(1.5, 10, 2)]

"""Combinations that cannot work, and options that have no effect."""

from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.config import AscendServeConfig, ineffective_options
from ascend_serve.config.combinations import check
from ascend_serve.errors import ConfigError

JOIN_FAULT = {"rank": 0, "phase": "join", "error": "hang"}


def configuration(**sections: Any) -> AscendServeConfig:
    return AscendServeConfig.model_validate({"model": {"path": "models/tiny"}, **sections})


@pytest.mark.parametrize(
    ("sections", "problem", "remedy"),
    [
        pytest.param(
            {"graph": {"npugraph_ex": {"enabled": False, "static_kernel": True}}},
            "graph.npugraph_ex.static_kernel: true with graph.npugraph_ex.enabled: false",
            "graph.npugraph_ex.enabled=true",
            id="static-kernel-without-npugraph-ex",
        ),
        pytest.param(
            {"graph": {"runtime": "xlite", "on_failure": "fail"}, "parallel": {"pipeline_parallel_size": 2}},
            "graph.runtime: xlite with parallel.pipeline_parallel_size: 2",
            "graph.runtime=aclgraph",
            id="xlite-that-must-not-degrade-with-pipeline",
        ),
        pytest.param(
            {"parallel": {"tensor_parallel_size": 2}, "emulated": {"npus": 2, "stream_quota": [1, 2, 3]}},
            "emulated.stream_quota: [1, 2, 3] has 3 numbers for 2 ranks",
            "one per rank",
            id="quota-of-other-length",
        ),
        pytest.param(
            {"parallel": {"tensor_parallel_size": 2}, "emulated": {"npus": 2, "faults": [{**JOIN_FAULT, "rank": 2}]}},
            "emulated.faults[0].rank: 2, but the ranks are 0 to 1",
            "rank from 0 to 1",
            id="fault-on-a-rank-that-does-not-exist",
        ),
        pytest.param(
            {"vllm": {"enable_sleep_mode": True}, "emulated": {"npus": 1}},
            "vllm.enable_sleep_mode: true on emulated NPUs",
            "emulated.npus=0",
            id="sleep-of-an-emulated-npu",
        ),
        pytest.param(
            {"vllm": {"prefill_context_parallel_size": 2}, "emulated": {"npus": 1}},
            "vllm.prefill_context_parallel_size: 2 on emulated NPUs",
            "Leave it out",
            id="context-parallel-on-emulated-npus",
        ),
        pytest.param(
            {"vllm": {"tensor_parallel_size": 2}},
            "vllm.tensor_parallel_size: decided by another section",
            "parallel.tensor_parallel_size",
            id="pass-through-of-a-key-of-ours",
        ),
        pytest.param(
            {"vllm": {"compilation_config": {"cudagraph_mode": "FULL"}}},
            "vllm.compilation_config.cudagraph_mode",
            "graph.mode",
            id="pass-through-of-a-nested-key-of-ours",
        ),
        pytest.param(
            {"vllm": {"compilation_config": 3}},
            "vllm.compilation_config: 3 is not a mapping",
            "keys below it",
            id="pass-through-number-for-a-mapping",
        ),
        pytest.param({"vllm": {"api_key": "secret"}}, "vllm.api_key", "VLLM_API_KEY", id="api-key-in-a-file"),
        pytest.param({"vllm": {"hf_token": "secret"}}, "vllm.hf_token", "HF_TOKEN", id="hub-token-in-a-file"),
    ],
)
def test_impossible_combination(sections: dict[str, Any], problem: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(configuration(**sections))
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_xlite_that_may_degrade_is_left_to_the_planner() -> None:
    check(configuration(graph={"runtime": "xlite"}, parallel={"pipeline_parallel_size": 2}))


@pytest.mark.parametrize("name", ["api_key", "hf_token"])
def test_a_secret_is_not_repeated_in_the_error(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(configuration(vllm={name: "hunter2"}))
    assert "hunter2" not in str(caught.value)


def test_all_impossible_combinations_at_once() -> None:
    with pytest.raises(ConfigError, match="2 problems"):
        check(configuration(vllm={"enforce_eager": True, "port": 1}))


def test_a_given_cluster_may_have_more_npus_than_are_emulated_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check(configuration(parallel={"tensor_parallel_size": 4}, emulated={"npus": 2}))


@pytest.mark.parametrize(
    ("sections", "warnings"),
    [
        pytest.param({}, [], id="defaults"),
        pytest.param(
            {"graph": {"xlite": {"full_mode": True}}},
            ["graph.xlite.full_mode has no effect with graph.runtime: aclgraph"],
            id="xlite-option-without-xlite",
        ),
        pytest.param({"graph": {"runtime": "xlite", "xlite": {"full_mode": True}}}, [], id="xlite-option-with-xlite"),
        pytest.param({"graph": {"xlite": {"full_mode": False}}}, [], id="default-said-aloud"),
        pytest.param(
            {"graph": {"mode": "NONE", "capture_sizes": [1], "deadlines": {"join": 5}}},
            [
                "graph.capture_sizes has no effect with graph.mode: NONE",
                "graph.deadlines.join has no effect with graph.mode: NONE",
            ],
            id="sizes-without-graphs",
        ),
        pytest.param(
            {"graph": {"runtime": "eager", "mode": "FULL", "on_failure": "fail"}},
            [
                "graph.mode: FULL has no effect with graph.runtime: eager",
                "graph.on_failure has no effect with graph.runtime: eager",
            ],
            id="mode-without-graphs",
        ),
        pytest.param({"graph": {"runtime": "eager"}}, [], id="eager-with-the-default-mode"),
        pytest.param(
            {"graph": {"mode": "FULL", "npugraph_ex": {"static_kernel": True}}}, [], id="static-kernel-in-full"
        ),
        pytest.param(
            {"emulated": {"npus": 0, "faults": [JOIN_FAULT]}},
            ["emulated.faults has no effect with emulated.npus: 0"],
            id="faults-without-emulation",
        ),
        pytest.param(
            {
                "graph": {"capture_sizes": [1, 2]},
                "emulated": {"npus": 1, "faults": [{"rank": 0, "phase": "capture", "error": "hang", "size": 8}]},
            },
            ["emulated.faults[0] never strikes: size 8 is not in graph.capture_sizes: [1, 2]"],
            id="fault-at-a-size-that-is-not-captured",
        ),
        pytest.param(
            {"emulated": {"npus": 1, "faults": [{**JOIN_FAULT, "size": 8}]}},
            ["emulated.faults[0] never strikes: phase join has no size"],
            id="fault-with-a-size-outside-capture",
        ),
        pytest.param(
            {
                "graph": {"mode": "NONE"},
                "emulated": {"npus": 1, "faults": [{"rank": 0, "phase": "warmup", "error": "hang"}]},
            },
            ["emulated.faults[0] never strikes: nothing is captured with graph.runtime: aclgraph and graph.mode: NONE"],
            id="fault-in-a-capture-that-does-not-happen",
        ),
        pytest.param({"emulated": {"npus": 1, "faults": [JOIN_FAULT]}}, [], id="fault-that-strikes"),
        pytest.param(
            {"graph": {"capture_sizes": [1], "workload": {"concurrency": 4}}},
            ["graph.workload.concurrency has no effect with graph.capture_sizes"],
            id="workload-beside-sizes",
        ),
        pytest.param(
            {"graph": {"workload": {"step_ms": 5.0}}},
            ["graph.workload.step_ms has no effect with no graph.workload.trace"],
            id="step-time-without-a-trace",
        ),
        pytest.param(
            {"serving": {"ingress": "proxy", "recovery": {"streams": "replica", "requests": "fail"}}},
            [
                "serving.recovery.streams: replica has no effect with serving.ingress: proxy",
                "serving.recovery.streams: replica has no effect with serving.recovery.requests: fail",
            ],
            id="streams-that-nobody-keeps",
        ),
        pytest.param({"serving": {"recovery": {"streams": "replica"}}}, [], id="streams-that-are-kept"),
        pytest.param(
            {
                "serving": {"recovery": {"weights": "host", "spares": False}},
                "parallel": {"data_parallel_size": 2},
            },
            [
                "serving.recovery.weights: host has no effect with serving.recovery.spares: false",
                "serving.recovery.weights: host has no effect with parallel.data_parallel_size: 2",
            ],
            id="weights-that-nobody-holds",
        ),
        pytest.param({"serving": {"recovery": {"spares": False}}}, [], id="weights-that-nobody-asked-to-hold"),
        pytest.param({"serving": {"recovery": {"weights": "host"}}}, [], id="weights-that-are-held"),
        pytest.param({"graph": {"workload": {"concurrency": 4}}}, [], id="workload-that-chooses-sizes"),
        pytest.param(
            {"emulated": {"npus": 1}, "hardware": {"soc": "310P", "hccl_op_expansion_mode": "AIV"}},
            ["hardware.soc has no effect with emulated.npus: 1"],
            id="hardware-beside-emulation",
        ),
        pytest.param(
            {"graph": {"runtime": "xlite", "replan": "idle"}},
            ["graph.replan has no effect with graph.runtime: xlite, which captures nothing"],
            id="replanning-under-xlite",
        ),
        pytest.param(
            {"graph": {"runtime": "xlite", "npugraph_ex": {"static_kernel": True}}},
            [],
            id="static-kernels-beside-xlite",
        ),
    ],
)
def test_options_without_effect(sections: dict[str, Any], warnings: list[str]) -> None:
    assert list(ineffective_options(configuration(**sections))) == warnings

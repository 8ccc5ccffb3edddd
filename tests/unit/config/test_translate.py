"""Translation to vLLM's engine arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ascend_serve.config import AscendServeConfig
from ascend_serve.config.passthrough import DECIDED_ELSEWHERE
from ascend_serve.config.vllm_arguments import known_arguments
from ascend_serve.errors import ConfigError
from ascend_serve.planning import plan_deployment


def configuration(**sections: Any) -> AscendServeConfig:
    return AscendServeConfig.model_validate({"model": {"path": "models/Qwen3-8B"}, **sections})


def arguments_of(config: AscendServeConfig) -> dict[str, Any]:
    return plan_deployment(config, environment={}).vllm_arguments


def at(arguments: Any, key: str) -> Any:
    for part in key.split("."):
        arguments = arguments[part]
    return arguments


@pytest.mark.parametrize(
    ("sections", "key", "value"),
    [
        pytest.param({}, "model", "models/Qwen3-8B", id="model"),
        pytest.param({}, "served_model_name", "Qwen3-8B", id="served-under-the-folders-name"),
        pytest.param({"model": {"path": "Qwen3-8B", "served_name": "n"}}, "served_model_name", "n", id="served-name"),
        pytest.param({"parallel": {"tensor_parallel_size": 4}}, "tensor_parallel_size", 4, id="tensor-parallel"),
        pytest.param(
            {"parallel": {"data_parallel_size": 2}}, "data_parallel_backend", "ray", id="data-parallel-on-ray"
        ),
        pytest.param({}, "compilation_config.cudagraph_mode", "FULL_AND_PIECEWISE", id="mode"),
        pytest.param(
            {"graph": {"capture_sizes": [4, 1, 2]}},
            "compilation_config.cudagraph_capture_sizes",
            [1, 2, 4],
            id="sizes",
        ),
        pytest.param(
            {"graph": {"capture_sizes": [4, 1, 2]}},
            "compilation_config.max_cudagraph_capture_size",
            4,
            id="largest-size",
        ),
        pytest.param({"graph": {"mode": "NONE"}}, "enforce_eager", True, id="mode-none-is-eager"),
        pytest.param({"graph": {"runtime": "eager"}}, "enforce_eager", True, id="runtime-eager-is-eager"),
        pytest.param(
            {"graph": {"runtime": "eager"}}, "compilation_config.cudagraph_mode", "NONE", id="runtime-eager-has-no-mode"
        ),
        pytest.param({}, "enforce_eager", False, id="graphs-are-not-eager"),
        pytest.param(
            {"graph": {"mode": "FULL"}},
            "additional_config.ascend_compilation_config",
            {"enable_npugraph_ex": True, "enable_static_kernel": False},
            id="npugraph-ex-by-default-in-full",
        ),
        pytest.param(
            {"graph": {"mode": "PIECEWISE", "npugraph_ex": {"static_kernel": True}}},
            "additional_config.ascend_compilation_config",
            {"enable_npugraph_ex": False, "enable_static_kernel": False},
            id="npugraph-ex-off-in-piecewise",
        ),
        pytest.param(
            {"graph": {"runtime": "xlite", "xlite": {"full_mode": True}}},
            "additional_config.xlite_graph_config",
            {"enabled": True, "full_mode": True},
            id="xlite-full",
        ),
        pytest.param(
            {"graph": {"runtime": "xlite", "xlite": {"full_mode": True}}},
            "compilation_config.cudagraph_mode",
            "NONE",
            id="xlite-full-turns-aclgraph-off",
        ),
        pytest.param(
            {"graph": {"runtime": "xlite"}},
            "compilation_config.cudagraph_mode",
            "FULL_DECODE_ONLY",
            id="xlite-decode-only",
        ),
        pytest.param(
            {"graph": {"xlite": {"full_mode": True}}},
            "additional_config.xlite_graph_config",
            {"enabled": False, "full_mode": False},
            id="no-xlite",
        ),
        pytest.param(
            {"emulated": {"npus": 1, "stream_quota": [64]}},
            "additional_config.ascend_serve.emulated.stream_quota",
            [64],
            id="emulated-section-reaches-the-workers",
        ),
        pytest.param({"vllm": {"max_num_seqs": 16}}, "max_num_seqs", 16, id="pass-through"),
        pytest.param(
            {"graph": {"capture_sizes": [8]}, "vllm": {"compilation_config": {"custom_ops": ["all"]}}},
            "compilation_config",
            {
                "cudagraph_mode": "FULL_AND_PIECEWISE",
                "cudagraph_capture_sizes": [8],
                "max_cudagraph_capture_size": 8,
                "custom_ops": ["all"],
            },
            id="pass-through-merges",
        ),
        pytest.param(
            {"graph": {"mode": "FULL"}, "vllm": {"additional_config": {"ascend_compilation_config": {"fuse": 1}}}},
            "additional_config.ascend_compilation_config",
            {"enable_npugraph_ex": True, "enable_static_kernel": False, "fuse": 1},
            id="pass-through-merges-deeply",
        ),
    ],
)
def test_argument(sections: dict[str, Any], key: str, value: object) -> None:
    assert at(arguments_of(configuration(**sections)), key) == value


def test_sizes_mean_nothing_without_graphs() -> None:
    arguments = arguments_of(configuration(graph={"mode": "NONE", "capture_sizes": [1, 2]}))
    assert arguments["compilation_config"] == {"cudagraph_mode": "NONE"}


def test_real_devices_get_no_emulated_section() -> None:
    assert "emulated" not in arguments_of(configuration())["additional_config"]["ascend_serve"]


def test_arguments_are_plain_json() -> None:
    config = configuration(
        graph={"runtime": "xlite", "deadlines": {"join": 5}},
        emulated={"npus": 1, "faults": [{"rank": 0, "phase": "join", "error": "hang"}]},
    )
    arguments = arguments_of(config)
    assert json.loads(json.dumps(arguments)) == arguments


def test_impossible_combinations_do_not_reach_vllm() -> None:
    graph = {"runtime": "xlite", "on_failure": "fail"}
    with pytest.raises(ConfigError, match="xlite"):
        arguments_of(configuration(graph=graph, parallel={"pipeline_parallel_size": 2}))


def test_sizes_to_fall_back_to_travel_beside_xlite_in_full_mode() -> None:
    graph = {"runtime": "xlite", "xlite": {"full_mode": True}, "capture_sizes": [1, 4]}
    request = arguments_of(configuration(graph=graph))["additional_config"]["ascend_serve"]["request"]
    assert (request["runtime"], request["mode"], request["capture_sizes"]) == ("xlite", "FULL_DECODE_ONLY", [1, 4])


@pytest.mark.parametrize("key", DECIDED_ELSEWHERE)
def test_keys_of_other_sections_are_refused(key: str) -> None:
    nested: Any = "value"
    for part in reversed(key.split(".")):
        nested = {part: nested}
    with pytest.raises(ConfigError) as caught:
        arguments_of(configuration(vllm=nested))
    assert caught.value.problem == f"vllm.{key}: decided by another section"
    assert caught.value.remedy == DECIDED_ELSEWHERE[key]


def test_all_our_arguments_are_vllms() -> None:
    known = known_arguments()
    assert set(arguments_of(configuration(parallel={"data_parallel_size": 2}))) <= {*known.engine, *known.server}

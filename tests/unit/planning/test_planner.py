"""Plans of the shipped configurations, and of what a user changes in them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config import load
from ascend_serve.errors import AscendServeError, ClusterError, ConfigError, ModelError, PlanError
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest, Switch
from ascend_serve.graph.stream_costs import ExpansionMode, StreamLayout, prior_budget, streams_per_size
from ascend_serve.planning import DeploymentPlan, plan_deployment

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def planned(name: str, *overrides: str, environment: dict[str, str] | None = None, **options: Any) -> DeploymentPlan:
    return plan_deployment(load(CONFIGS / f"{name}.yaml", overrides), environment=environment or {}, **options)


def rules(plan: DeploymentPlan) -> list[str]:
    return [adjustment.rule for adjustment in plan.adjustments]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_plans_without_its_model_and_without_loose_ends(name: str) -> None:
    plan = planned(name)
    capture = plan.capture
    assert plan.mode is plan.requested_mode
    assert plan.runtime is plan.requested_runtime
    assert plan.no_effect == ()
    assert capture.sizes[-1] == plan.max_num_seqs * plan.decode_query_len
    assert capture.eager_share == 0
    assert capture.streams <= capture.stream_budget
    assert plan.ladder[-1].mode is GraphMode.NONE
    assert set(plan.rule_sources) == set(rules(plan))
    assert DeploymentPlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("name", "backend", "npugraph_ex", "graphs_per_size", "nodes"),
    [
        pytest.param("demo", "attention_v1", False, 1, 1, id="demo"),
        pytest.param("qwen3-32b", "attention_v1", False, 2, 1, id="Qwen3-32B TP 8"),
        pytest.param("qwen3-235b-a22b", "attention_v1", True, 1, 2, id="Qwen3-235B-A22B TP 8 x PP 2"),
        pytest.param("deepseek-v3", "mla_v1", True, 1, 4, id="DeepSeek-V3 DP x EP"),
        pytest.param("qwen3-32b-xlite", "attention_v1", True, 0, 1, id="Xlite"),
        pytest.param("qwen3-8b-vnpu", "attention_v1", True, 1, 1, id="vNPU"),
        pytest.param("whisper-large-v3", "attention_v1", False, 1, 1, id="encoder-decoder"),
    ],
)
def test_shipped_configurations(name: str, backend: str, npugraph_ex: bool, graphs_per_size: int, nodes: int) -> None:
    plan = planned(name)
    assert plan.model.attention_backend == backend
    assert plan.npugraph_ex.on is npugraph_ex
    assert plan.capture.graphs == graphs_per_size * len(plan.capture.sizes)
    assert len(plan.placement.nodes) == nodes


@pytest.mark.parametrize(
    ("name", "overrides", "mode", "runtime", "rule"),
    [
        pytest.param(
            "deepseek-v3",
            ["graph.mode=FULL"],
            "FULL_DECODE_ONLY",
            "aclgraph",
            "backend-uniform-batches-only",
            id="MLA has no full graphs with prefill",
        ),
        pytest.param(
            "whisper-large-v3",
            ["graph.mode=FULL"],
            "PIECEWISE",
            "aclgraph",
            "encoder-decoder",
            id="encoder-decoder has no full graphs",
        ),
        pytest.param(
            "qwen3-8b-vnpu",
            ["graph.mode=FULL_AND_PIECEWISE"],
            "FULL_DECODE_ONLY",
            "aclgraph",
            "whole-graphs-on-soft-partition",
            id="vNPU has no pieces",
        ),
        pytest.param(
            "qwen3-32b-xlite",
            ["graph.xlite.full_mode=true"],
            "NONE",
            "xlite",
            "xlite-full-mode",
            id="Xlite full mode needs no ACLGraph",
        ),
        pytest.param(
            "qwen3-32b-xlite",
            ["model.path=/models/DeepSeek-V3"],
            "FULL_DECODE_ONLY",
            "aclgraph",
            "xlite-architecture",
            id="Xlite does not know the family",
        ),
        pytest.param(
            "qwen3-32b",
            ["hardware.soc='950'"],
            "FULL_AND_PIECEWISE",
            "aclgraph",
            "device-sizes",
            id="950 takes 4 sizes",
        ),
        pytest.param(
            "qwen3-32b",
            [
                "graph.mode=FULL",
                "vllm.decode_context_parallel_size=2",
                "parallel.tensor_parallel_size=16",
                "hardware.npus_per_node=16",
            ],
            "FULL_DECODE_ONLY",
            "aclgraph",
            "context-parallel",
            id="context parallel",
        ),
        pytest.param(
            "qwen3-32b",
            ["vllm.compilation_config.mode=0"],
            "NONE",
            "eager",
            "piecewise-needs-compilation",
            id="compilation off, by number",
        ),
        pytest.param(
            "qwen3-32b",
            ["graph.npugraph_ex.enabled=true"],
            "FULL_AND_PIECEWISE",
            "aclgraph",
            "npugraph-ex-needs-the-whole-graph",
            id="npugraph_ex asked for in vain",
        ),
    ],
)
def test_what_is_narrowed_and_why(name: str, overrides: list[str], mode: str, runtime: str, rule: str) -> None:
    plan = planned(name, *overrides)
    assert (plan.mode, plan.runtime) == (mode, runtime)
    assert rule in rules(plan)


@pytest.mark.parametrize(
    ("name", "overrides", "environment", "part"),
    [
        pytest.param("qwen3-32b", [], {"ASCEND_LAUNCH_BLOCKING": "1"}, "ASCEND_LAUNCH_BLOCKING", id="launch blocking"),
        pytest.param("qwen3-8b-vnpu", ["graph.mode=PIECEWISE"], {}, "vNPU", id="pieces on vNPU"),
        pytest.param("qwen3-235b-a22b", ["hardware.nodes=1"], {}, "16", id="more ranks than NPUs"),
        pytest.param(
            "demo",
            ["parallel.data_parallel_size=2"],
            {},
            r"needs 4 NPUs \(tensor_parallel_size 2 x .* offers 2 \(node-0: 2 NPU\)",
            id="more ranks than emulated NPUs",
        ),
        pytest.param(
            "qwen3-32b",
            ["graph.capture_sizes=[9000]", "vllm.max_num_batched_tokens=8192"],
            {},
            "capture_sizes",
            id="no size can be reached",
        ),
        pytest.param(
            "qwen3-32b",
            ["vllm.max_num_seqs=4", "vllm.additional_config.enable_flashcomm1=true"],
            {},
            "multiples of 8",
            id="no multiple of TP",
        ),
    ],
)
def test_what_cannot_work_says_what_to_change(
    name: str, overrides: list[str], environment: dict[str, str], part: str
) -> None:
    with pytest.raises(PlanError, match=part) as refusal:
        planned(name, *overrides, environment=environment)
    assert refusal.value.exit_code == 2
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("overrides", "error", "part"),
    [
        pytest.param(["vllm.max_num_seqs=many"], ConfigError, r"vllm\.max_num_seqs", id="wrong type below vllm"),
        pytest.param(
            ["vllm.speculative_config={method: ngram, num_speculative_tokens: 0}"],
            ConfigError,
            "num_speculative_tokens",
            id="wrong value",
        ),
        pytest.param(["model.path=/nowhere/else"], ModelError, "/nowhere/else", id="neither model nor card"),
    ],
)
def test_what_the_user_wrote_wrong(overrides: list[str], error: type[AscendServeError], part: str) -> None:
    with pytest.raises(error, match=part) as raised:
        planned("qwen3-32b", *overrides)
    assert isinstance(raised.value, AscendServeError)
    assert raised.value.exit_code == 2


def test_streams_limit_the_sizes_by_the_formula() -> None:
    layout = StreamLayout(num_layers=64, tensor_parallel_size=8, expansion_mode=ExpansionMode.AIV)
    plan = planned("qwen3-32b")
    assert plan.capture.stream_budget == prior_budget(layout)
    assert len(plan.capture.sizes) == prior_budget(layout) // streams_per_size(layout, GraphMode.FULL_AND_PIECEWISE)
    assert rules(plan) == ["stream-budget"]


@pytest.mark.parametrize(
    ("budget", "mode", "sizes"),
    [
        pytest.param(10_000, "FULL_AND_PIECEWISE", 35, id="more than enough"),
        pytest.param(660, "FULL_AND_PIECEWISE", 5, id="five sizes of 132 streams"),
        pytest.param(131, "FULL_DECODE_ONLY", 35, id="not one size: a cheaper mode"),
        pytest.param(5, "FULL_DECODE_ONLY", 2, id="two full graphs"),
        pytest.param(1, "NONE", 0, id="nothing fits: eager"),
    ],
)
def test_a_measured_budget_replaces_the_prior(budget: int, mode: str, sizes: int) -> None:
    plan = planned("qwen3-32b", measured_budget=budget)
    assert plan.mode == mode
    assert len(plan.capture.sizes) == sizes
    assert plan.capture.budget_source == "measured"
    assert plan.runtime == (RuntimeName.EAGER if mode == "NONE" else RuntimeName.ACLGRAPH)
    assert plan.npugraph_ex.on is (mode == "FULL_DECODE_ONLY")


@pytest.mark.parametrize(
    ("overrides", "on", "reason"),
    [
        pytest.param(["graph.mode=FULL"], True, "On by default in mode FULL.", id="default"),
        pytest.param(
            ["graph.mode=FULL", "graph.npugraph_ex.enabled=true"],
            True,
            "Turned on by graph.npugraph_ex.enabled: true.",
            id="on",
        ),
        pytest.param(
            ["graph.mode=FULL", "graph.npugraph_ex.enabled=false"],
            False,
            "Turned off by graph.npugraph_ex.enabled: false.",
            id="off",
        ),
        pytest.param(["graph.mode=FULL", "hardware.soc=310P"], False, "310P has no npugraph_ex.", id="310P"),
        pytest.param(
            ["graph.mode=FULL", "emulated.npus=8"],
            False,
            "Off unless asked for on emulated NPUs, where Inductor stands in for it.",
            id="emulated",
        ),
        pytest.param(
            ["graph.mode=FULL", "emulated.npus=8", "graph.npugraph_ex.enabled=true"],
            True,
            "Turned on by graph.npugraph_ex.enabled: true.",
            id="emulated, on",
        ),
    ],
)
def test_why_npugraph_ex_is_on_or_off(overrides: list[str], on: bool, reason: str) -> None:
    assert planned("qwen3-32b", *overrides).npugraph_ex == Switch(on=on, reason=reason)


def test_no_room_and_no_step_down_allowed() -> None:
    with pytest.raises(PlanError, match="One size takes 132 streams"):
        planned("qwen3-32b", "graph.on_failure=fail", measured_budget=131)


def test_a_container_counts_with_its_own_quota() -> None:
    plan = planned("qwen3-8b-vnpu")
    assert plan.capture.budget_source == "container quota"
    assert plan.capture.stream_budget == 512 * 1800 // 2048


@pytest.mark.parametrize(
    ("overrides", "sizes", "rule"),
    [
        pytest.param(["graph.capture_sizes=[1, 2, 64]"], (1, 2, 64), None, id="kept"),
        pytest.param(["graph.capture_sizes=[8, 64, 128]"], (8, 64), "reachable-sizes", id="above the largest batch"),
        pytest.param(
            ["graph.capture_sizes=[8, 64, 128]", "graph.mode=FULL"], (8, 64, 128), None, id="prefill reaches further"
        ),
        pytest.param(
            ["graph.capture_sizes=[1, 4, 9]", "vllm.speculative_config={method: ngram, num_speculative_tokens: 2}"],
            (3, 6, 9),
            "reachable-sizes",
            id="rounded up to the query length",
        ),
    ],
)
def test_sizes_of_the_user(overrides: list[str], sizes: tuple[int, ...], rule: str | None) -> None:
    plan = planned("qwen3-8b-vnpu", *overrides)
    assert plan.capture.sizes == sizes
    assert rules(plan) == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        pytest.param(["graph.capture_sizes=[1, 8]"], r"9 to 64 .* add 64", id="the largest batch is missing"),
        pytest.param(["vllm.max_num_seqs=1000"], r"513 to 1000", id="more requests than the cap"),
        pytest.param(
            [
                "vllm.additional_config.enable_flashcomm1=true",
                "vllm.max_num_seqs=10",
                "hardware.npus_per_node=4",
                "parallel.tensor_parallel_size=4",
            ],
            r"9 to 10 .* multiples of 4",
            id="no multiple of TP",
        ),
    ],
)
def test_batches_that_run_eager_are_named(overrides: list[str], part: str) -> None:
    (note,) = [note for note in planned("qwen3-8b-vnpu", *overrides).notes if "eager" in note]
    assert re.search(part, note)


def test_sizes_are_multiples_under_speculative_decoding_and_sequence_parallelism() -> None:
    plan = planned("deepseek-v3", "vllm.additional_config.enable_flashcomm1=true")
    assert plan.capture.multiple_of == 8
    assert all(size % 8 == 0 for size in plan.capture.sizes)


def test_the_workload_decides_the_sizes(tmp_path: Path) -> None:
    histogram = tmp_path / "histogram.json"
    histogram.write_text(json.dumps({"7": 900, "13": 100}))
    prior, counted = planned("qwen3-32b"), planned("qwen3-32b", f"graph.workload.histogram={histogram}")
    assert {7, 13, 256} <= set(counted.capture.sizes)
    assert counted.capture.padding_waste < prior.capture.padding_waste / 2
    assert str(histogram) in counted.capture.workload


def test_lora_cases_have_graphs_of_their_own() -> None:
    plain, lora = planned("qwen3-8b-vnpu"), planned("qwen3-8b-vnpu", "vllm.enable_lora=true", "vllm.max_loras=2")
    assert lora.lora_cases == (0, 3)
    assert lora.capture.streams_per_size == 2 * plain.capture.streams_per_size


@pytest.mark.parametrize(
    ("name", "overrides", "environment", "streams"),
    [
        pytest.param("qwen3-32b", [], {}, 66 * 2, id="configuration"),
        pytest.param("qwen3-32b", ["hardware.hccl_op_expansion_mode=null"], {}, 66 * 3, id="unset: FFTS+"),
        pytest.param(
            "qwen3-32b",
            ["hardware.hccl_op_expansion_mode=null"],
            {"HCCL_OP_EXPANSION_MODE": "AIV"},
            66 * 2,
            id="environment",
        ),
    ],
)
def test_where_hccl_unfolds_decides_the_streams(
    name: str, overrides: list[str], environment: dict[str, str], streams: int
) -> None:
    assert planned(name, *overrides, environment=environment).capture.streams_per_size == streams


def test_an_expansion_mode_that_hccl_does_not_know() -> None:
    with pytest.raises(ConfigError, match="HCCL_OP_EXPANSION_MODE=AVI"):
        planned(
            "qwen3-32b",
            "hardware.hccl_op_expansion_mode=null",
            environment={"HCCL_OP_EXPANSION_MODE": "AVI"},
        )


def test_the_engine_gets_what_was_planned() -> None:
    plan = planned("qwen3-32b", "graph.mode=FULL_DECODE_ONLY", "graph.npugraph_ex.static_kernel=true")
    arguments = plan.vllm_arguments
    assert arguments["max_num_seqs"] == 256
    assert arguments["compilation_config"]["cudagraph_mode"] == plan.mode
    assert arguments["compilation_config"]["cudagraph_capture_sizes"] == list(plan.capture.sizes)
    assert arguments["additional_config"]["ascend_compilation_config"] == {
        "enable_npugraph_ex": True,
        "enable_static_kernel": True,
    }
    assert any("Static kernels" in note for note in plan.notes)


def test_the_request_of_the_capture_group_is_the_plan() -> None:
    plan = planned("deepseek-v3")
    request = TypeAdapter(GraphRequest).validate_python(
        plan.vllm_arguments["additional_config"]["ascend_serve"]["request"]
    )
    assert (request.runtime, request.mode, request.capture_sizes) == (plan.runtime, plan.mode, plan.capture.sizes)
    assert (request.max_num_seqs, request.decode_query_len) == (64, 2)


def test_ranks_are_placed_by_group_stage_and_engine() -> None:
    ranks = planned("qwen3-235b-a22b").placement.ranks
    assert [rank.node for rank in ranks] == ["node-0"] * 8 + ["node-1"] * 8
    assert [rank.pipeline_parallel_rank for rank in ranks] == [0] * 8 + [1] * 8
    assert [rank.tensor_parallel_rank for rank in ranks] == [*range(8), *range(8)]
    assert [rank.device for rank in ranks] == [*range(8), *range(8)]


def test_on_a_given_cluster_its_nodes_count() -> None:
    nodes = [NodeOffer("a", "10.0.0.1", npus=2), NodeOffer("b", "10.0.0.2", npus=2)]
    placement = planned("demo", "parallel.pipeline_parallel_size=2", nodes=nodes).placement
    assert [rank.node for rank in placement.ranks] == ["a", "a", "b", "b"]
    with pytest.raises(ClusterError, match=r"offers 2 \(10\.0\.0\.1: 2 NPU\)"):
        planned("qwen3-32b", nodes=nodes[:1])


def test_each_node_gets_its_own_environment() -> None:
    environment = planned("deepseek-v3").placement.environment
    assert list(environment) == ["node-0", "node-1", "node-2", "node-3"]
    assert environment["node-2"]["HCCL_IF_IP"] == "<address of node-2>"
    assert environment["node-2"]["HCCL_OP_EXPANSION_MODE"] == "AIV"
    assert planned("demo").placement.environment == {"node-0": {}}


@pytest.mark.parametrize(
    ("name", "overrides", "option"),
    [
        pytest.param("demo", ["hardware.nodes=2"], "hardware.nodes", id="machines of the emulated NPU"),
        pytest.param(
            "qwen3-8b-vnpu",
            ["hardware.hccl_op_expansion_mode=AIV"],
            "hardware.hccl_op_expansion_mode",
            id="no collectives",
        ),
        pytest.param(
            "qwen3-32b", ["graph.workload.step_ms=10"], "graph.workload.step_ms", id="step time without trace"
        ),
        pytest.param(
            "qwen3-32b",
            ["graph.runtime=eager", "graph.workload.concurrency=4"],
            "graph.workload.concurrency",
            id="workload without graphs",
        ),
        pytest.param(
            "qwen3-32b",
            ["vllm.compilation_config.mode=0", "graph.capture_sizes=[256]"],
            "graph.capture_sizes",
            id="sizes without graphs",
        ),
        pytest.param(
            "qwen3-32b",
            ["vllm.compilation_config.mode=0", "graph.capture_sizes=[256]", "graph.workload.concurrency=4"],
            "graph.workload.concurrency",
            id="sizes and workload without graphs",
        ),
        pytest.param(
            "qwen3-32b",
            ["vllm.compilation_config.mode=0", "graph.workload.concurrency=4"],
            "graph.workload.concurrency",
            id="workload with pieces but no compilation",
        ),
    ],
)
def test_options_without_effect_are_named_once(name: str, overrides: list[str], option: str) -> None:
    assert [sentence for sentence in planned(name, *overrides).no_effect if option in sentence] != []
    options = [sentence.split(" has no effect")[0] for sentence in planned(name, *overrides).no_effect]
    assert len(options) == len(set(options))

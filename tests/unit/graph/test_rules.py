"""The rules of graph mode, one by one: the situation, and what it becomes."""

from dataclasses import replace
from typing import Any

import pytest

from ascend_serve.errors import PlanError
from ascend_serve.graph.architecture import AttentionBackend
from ascend_serve.graph.hardware import Soc
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.rules import RULES, resolve, resolve_compiler
from ascend_serve.graph.situation import Situation
from ascend_serve.releases import RELEASES

XLITE_FULL = {RuntimeName.XLITE: {"full_mode": True}}
ACLGRAPH, XLITE, EAGER = RuntimeName.ACLGRAPH, RuntimeName.XLITE, RuntimeName.EAGER
NONE, PIECEWISE, FULL = GraphMode.NONE, GraphMode.PIECEWISE, GraphMode.FULL
DECODE, BOTH = GraphMode.FULL_DECODE_ONLY, GraphMode.FULL_AND_PIECEWISE


def situation(mode: GraphMode = BOTH, runtime: RuntimeName = ACLGRAPH, **fields: Any) -> Situation:
    return Situation(
        **{"runtime": runtime, "mode": mode, "requested_mode": mode, "architecture": "Qwen3ForCausalLM"} | fields
    )


@pytest.mark.parametrize("mode", list(GraphMode), ids=lambda mode: mode.value)
def test_a_dense_model_keeps_every_mode(mode: GraphMode) -> None:
    resolved, _ = resolve(situation(mode))
    assert resolved.mode is mode
    assert resolved.runtime is (EAGER if mode is NONE else ACLGRAPH)


@pytest.mark.parametrize(
    ("fields", "mode", "runtime", "rule"),
    [
        pytest.param(
            {"mode": FULL, "backend": AttentionBackend.MLA_V1},
            DECODE,
            ACLGRAPH,
            "backend-uniform-batches-only",
            id="MLA",
        ),
        pytest.param(
            {"mode": FULL, "backend": AttentionBackend.SFA_V1},
            DECODE,
            ACLGRAPH,
            "backend-uniform-batches-only",
            id="SFA",
        ),
        pytest.param({"runtime": EAGER}, NONE, EAGER, "eager-runtime", id="runtime eager"),
        pytest.param({"mode": NONE}, NONE, EAGER, "nothing-to-replay", id="mode NONE"),
        pytest.param({"encoder_decoder": True}, PIECEWISE, ACLGRAPH, "encoder-decoder", id="encoder-decoder, both"),
        pytest.param(
            {"encoder_decoder": True, "mode": DECODE},
            PIECEWISE,
            ACLGRAPH,
            "encoder-decoder",
            id="encoder-decoder, decode",
        ),
        pytest.param(
            {"encoder_decoder": True, "mode": FULL, "compilation_mode": "NONE"},
            NONE,
            EAGER,
            "encoder-decoder",
            id="encoder-decoder, not compiled",
        ),
        pytest.param(
            {"compilation_mode": "NONE"}, NONE, EAGER, "piecewise-needs-compilation", id="pieces without compilation"
        ),
        pytest.param(
            {"compilation_mode": "DYNAMO_TRACE_ONCE", "mode": FULL},
            NONE,
            EAGER,
            "unknown-compilation-mode",
            id="compilation mode unknown on Ascend",
        ),
        pytest.param(
            {"mode": FULL, "decode_context_parallel_size": 2}, DECODE, ACLGRAPH, "context-parallel", id="decode CP"
        ),
        pytest.param(
            {"mode": FULL, "prefill_context_parallel_size": 2}, DECODE, ACLGRAPH, "context-parallel", id="prefill CP"
        ),
        pytest.param({"soft_partitioned": True}, DECODE, ACLGRAPH, "whole-graphs-on-soft-partition", id="vNPU, both"),
        pytest.param(
            {"soft_partitioned": True, "encoder_decoder": True},
            NONE,
            EAGER,
            "whole-graphs-on-soft-partition",
            id="vNPU, encoder-decoder",
        ),
        pytest.param(
            {"runtime": XLITE, "release": RELEASES[-1]}, NONE, XLITE, "xlite-decode-without-padding", id="Xlite of 0.30"
        ),
        pytest.param(
            {"runtime": XLITE, "architecture": "DeepseekV3ForCausalLM", "release": RELEASES[-1]},
            NONE,
            XLITE,
            "xlite-decode-without-padding",
            id="DeepSeek on Xlite of 0.30",
        ),
        pytest.param({"runtime": XLITE}, DECODE, XLITE, "xlite-decode-only", id="Xlite, decode"),
        pytest.param(
            {"runtime": XLITE, "runtime_options": XLITE_FULL}, NONE, XLITE, "xlite-full-mode", id="Xlite, full"
        ),
        pytest.param(
            {"runtime": XLITE, "runtime_options": XLITE_FULL, "num_speculative_tokens": 1},
            DECODE,
            XLITE,
            "xlite-decode-only",
            id="Xlite, full, speculative",
        ),
        pytest.param(
            {"runtime": XLITE, "architecture": "DeepseekV3ForCausalLM"},
            BOTH,
            ACLGRAPH,
            "xlite-architecture",
            id="Xlite, other family",
        ),
        pytest.param(
            {"runtime": XLITE, "pipeline_parallel_size": 2}, BOTH, ACLGRAPH, "xlite-pipeline-parallel", id="Xlite, PP"
        ),
        pytest.param(
            {"runtime": XLITE, "num_speculative_tokens": 2},
            BOTH,
            ACLGRAPH,
            "xlite-speculative-decoding",
            id="Xlite, 2 drafts",
        ),
        pytest.param({"runtime": XLITE, "soc": Soc.ATLAS_300I}, BOTH, ACLGRAPH, "xlite-on-310p", id="Xlite, 310P"),
        pytest.param({"runtime": XLITE, "lora": True}, BOTH, ACLGRAPH, "xlite-lora", id="Xlite, LoRA"),
        pytest.param({"runtime": XLITE, "pooling": True}, PIECEWISE, ACLGRAPH, "xlite-pooling", id="Xlite, pooling"),
        pytest.param({"pooling": True}, PIECEWISE, ACLGRAPH, "pooling-without-full-graphs", id="pooling, both"),
        pytest.param(
            {"pooling": True, "mode": DECODE}, PIECEWISE, ACLGRAPH, "pooling-without-full-graphs", id="pooling, decode"
        ),
        pytest.param(
            {"pooling": True, "mode": FULL, "compilation_mode": "NONE"},
            NONE,
            EAGER,
            "pooling-without-full-graphs",
            id="pooling, not compiled",
        ),
    ],
)
def test_what_is_narrowed(fields: dict[str, Any], mode: GraphMode, runtime: RuntimeName, rule: str) -> None:
    resolved, changes = resolve(situation(**fields))
    assert (resolved.mode, resolved.runtime) == (mode, runtime)
    assert rule in {change.adjustment.rule for change in changes}


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        pytest.param({"launch_blocking": True}, "launch-blocking", id="ASCEND_LAUNCH_BLOCKING"),
        pytest.param({"v1_engine": False}, "v1-engine-only", id="V0 engine"),
        pytest.param({"v2_model_runner": True}, "first-model-runner-only", id="Model Runner V2"),
        pytest.param(
            {"mode": PIECEWISE, "soft_partitioned": True}, "piecewise-on-soft-partition", id="vNPU, PIECEWISE"
        ),
        pytest.param(
            {"prefill_context_parallel_size": 2, "data_parallel_size": 2},
            "prefill-context-parallel-with-data-parallel",
            id="PCP x DP",
        ),
        pytest.param(
            {"multi_token_prediction": True, "num_speculative_tokens": 1, "pipeline_parallel_size": 2},
            "multi-token-prediction-with-pipeline-parallel",
            id="MTP x PP",
        ),
        pytest.param(
            {"sequence_parallel": True, "tensor_parallel_size": 4, "num_speculative_tokens": 2},
            "sequence-parallel-with-speculative-decoding",
            id="multiples of 3 and 4",
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(PlanError) as refusal:
        resolve(situation(**fields))
    assert rule in refusal.value.problem
    assert refusal.value.remedy


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"launch_blocking": True, "mode": NONE}, id="launch blocking without graphs"),
        pytest.param({"launch_blocking": True, "emulated": True}, id="launch blocking without a device"),
        pytest.param(
            {"sequence_parallel": True, "tensor_parallel_size": 4, "num_speculative_tokens": 1},
            id="multiples of 2 and 4",
        ),
        pytest.param({"pipeline_parallel_size": 2, "num_speculative_tokens": 1}, id="other drafts with PP"),
        pytest.param({"soft_partitioned": True, "mode": PIECEWISE, "runtime": EAGER}, id="eager on vNPU"),
    ],
)
def test_what_is_not_refused(fields: dict[str, Any]) -> None:
    resolve(situation(**fields))


@pytest.mark.parametrize(
    ("fields", "on"),
    [
        pytest.param({"mode": FULL}, True, id="FULL"),
        pytest.param({"mode": DECODE}, True, id="FULL_DECODE_ONLY"),
        pytest.param({"mode": BOTH}, False, id="FULL_AND_PIECEWISE"),
        pytest.param({"mode": PIECEWISE}, False, id="PIECEWISE"),
        pytest.param({"mode": NONE}, False, id="NONE"),
        pytest.param({"mode": FULL, "soc": Soc.ATLAS_300I}, False, id="310P"),
        pytest.param({"mode": FULL, "encoder_decoder": True}, False, id="narrowed to PIECEWISE"),
        pytest.param({"mode": FULL, "npugraph_ex": False}, False, id="switched off"),
    ],
)
def test_where_npugraph_ex_is_on_and_static_kernels_with_it(fields: dict[str, Any], on: bool) -> None:
    resolved, _ = resolve_compiler(resolve(situation(**fields, static_kernel=True))[0])
    assert resolved.npugraph_ex is on
    assert resolved.static_kernel is on


def test_an_emulated_npu_has_npugraph_ex_without_static_kernels() -> None:
    resolved, _ = resolve_compiler(resolve(situation(mode=FULL, emulated=True, static_kernel=True))[0])
    assert (resolved.npugraph_ex, resolved.static_kernel) == (True, False)


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        pytest.param({}, None, id="910B"),
        pytest.param({"soc": Soc.ATLAS_A5}, 4, id="950, pieces"),
        pytest.param({"soc": Soc.ATLAS_A5, "mode": DECODE}, None, id="950, full graphs"),
        pytest.param({"soc": Soc.ATLAS_300I}, None, id="310P, one rank"),
        pytest.param({"soc": Soc.ATLAS_300I, "tensor_parallel_size": 2}, 2, id="310P, TP"),
    ],
)
def test_how_many_sizes_a_device_takes(fields: dict[str, Any], most: int | None) -> None:
    assert resolve(situation(**fields))[0].max_sizes == most


def test_every_rule_can_be_read() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.source
        assert rule.explain(situation()).endswith(".")
        assert (rule.to is None) == bool(rule.remedy) == (not rule.changes)


def test_rules_do_not_depend_on_what_they_have_already_changed() -> None:
    settled, changes = resolve(situation(FULL, encoder_decoder=True))
    assert changes
    assert resolve(replace(settled, requested_mode=settled.mode)) == (replace(settled, requested_mode=settled.mode), ())

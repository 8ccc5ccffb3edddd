"""The rules of graph mode on Ascend, as tables that are applied from top to bottom.

Read ``RULES`` as: where *when* holds, *changes* becomes *to*, for that *reason*; without *to* the deployment is
refused.
"""

from __future__ import annotations

from dataclasses import replace

from ascend_serve.graph.hardware import Soc
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.narrowing import BackendSituation, narrow, without_piecewise
from ascend_serve.graph.rule import Change, Rule, apply_rules
from ascend_serve.graph.runtimes import RUNTIMES, runtime_rules
from ascend_serve.graph.situation import COMPILED, NOT_COMPILED, Situation
from ascend_serve.releases import ModelRunner

STATIC_SHAPE_MODES = (GraphMode.FULL, GraphMode.FULL_DECODE_ONLY)
"""Modes in which the FX graph stays whole."""

_GUIDE = "vLLM Ascend Graph Mode Guide"
_PLATFORM = "vllm-ascend 0.23.0, NPUPlatform.check_and_update_config"

_ENGINE: tuple[Rule[Situation], ...] = (
    Rule(
        "v1-engine-only",
        f"{_GUIDE}, Current Status on Ascend",
        when=lambda s: not s.v1_engine,
        reason="Graph mode exists on vLLM's V1 engine only, and VLLM_USE_V1=0 is set.",
        remedy="Unset VLLM_USE_V1.",
    ),
    Rule(
        "first-model-runner-only",
        "vllm-ascend, worker/worker.py, of the release that the deployment runs on",
        when=lambda s: s.v2_model_runner and not s.emulated and ModelRunner.V2 not in s.release.runners,
        reason="VLLM_USE_V2_MODEL_RUNNER is set, and vllm-ascend {s.release.vllm_ascend} has no Model Runner V2.",
        remedy="Unset VLLM_USE_V2_MODEL_RUNNER, or install a later release.",
    ),
    Rule(
        "prefill-context-parallel-with-data-parallel",
        "vllm-ascend 0.23.0, NPUPlatform._validate_parallel_config",
        when=lambda s: s.prefill_context_parallel_size > 1 and s.data_parallel_size > 1,
        reason="vLLM Ascend refuses prefill_context_parallel_size {s.prefill_context_parallel_size} together with "
        "data_parallel_size {s.data_parallel_size}.",
        remedy="Set parallel.data_parallel_size=1 or vllm.prefill_context_parallel_size=1.",
    ),
    Rule(
        "multi-token-prediction-with-pipeline-parallel",
        "vllm-ascend 0.23.0, NPUPlatform._validate_pd_pp_mtp_config",
        when=lambda s: s.multi_token_prediction and s.pipeline_parallel_size > 1,
        reason="vLLM Ascend refuses multi-token prediction with pipeline_parallel_size {s.pipeline_parallel_size}.",
        remedy="Set parallel.pipeline_parallel_size=1, or leave out vllm.speculative_config.",
    ),
    Rule(
        "sequence-parallel-with-speculative-decoding",
        "vLLM 0.23.0, CompilationConfig.adjust_cudagraph_sizes_for_spec_decode",
        when=lambda s: (
            s.sequence_parallel
            and s.decode_query_len > 1
            and max(s.decode_query_len, s.tensor_parallel_size) % min(s.decode_query_len, s.tensor_parallel_size) > 0
        ),
        reason="Capture sizes would have to be multiples of {s.decode_query_len} tokens per request and of "
        "tensor_parallel_size {s.tensor_parallel_size}, and neither is a multiple of the other.",
        remedy="Change vllm.speculative_config.num_speculative_tokens, or turn sequence parallelism off.",
    ),
)

_RUNTIME = tuple(runtime_rules())

_MODE: tuple[Rule[Situation], ...] = (
    Rule(
        "launch-blocking",
        _PLATFORM,
        when=lambda s: s.launch_blocking and not s.emulated and s.mode is not GraphMode.NONE,
        reason="ASCEND_LAUNCH_BLOCKING=1 is set, which ACLGraph cannot run with.",
        remedy="Unset ASCEND_LAUNCH_BLOCKING, or set graph.runtime=eager.",
    ),
    Rule(
        "piecewise-on-soft-partition",
        "vllm-ascend documentation, vNPU: soft partitions share the 2048 streams of the device",
        when=lambda s: s.soft_partitioned and s.requested_mode is GraphMode.PIECEWISE and s.has_pieces,
        reason="graph.mode PIECEWISE takes a stream for each piece of each size, and a soft-partitioned NPU (vNPU) "
        "shares the streams of the device with other containers.",
        remedy="Set graph.mode=FULL_DECODE_ONLY, or use a whole NPU and leave out hardware.stream_quota.",
    ),
    Rule(
        "unknown-compilation-mode",
        _PLATFORM,
        when=lambda s: s.compilation_mode not in (COMPILED, NOT_COMPILED),
        changes="mode",
        to=lambda s: GraphMode.NONE,
        reason="vLLM Ascend does not know compilation mode {s.compilation_mode}.",
    ),
    Rule(
        "pooling-without-full-graphs",
        "vLLM 0.23.0 and 0.32.0, VllmConfig.__post_init__",
        when=lambda s: s.pooling and GraphMode.FULL in (s.mode.decode_mode, s.mode.mixed_mode),
        changes="mode",
        to=lambda s: GraphMode.PIECEWISE,
        reason="A pooling model runs prefill alone, and vLLM captures no full graphs for it.",
    ),
    Rule(
        "piecewise-needs-compilation",
        "vLLM 0.23.0, VllmConfig.__post_init__",
        when=lambda s: s.has_pieces and s.compilation_mode == NOT_COMPILED,
        changes="mode",
        to=lambda s: GraphMode.NONE,
        reason="Pieces come from compilation, and vllm.compilation_config.mode turns it off.",
    ),
    Rule(
        "encoder-decoder",
        _PLATFORM,
        when=lambda s: s.encoder_decoder and s.mode is not GraphMode.NONE,
        changes="mode",
        to=lambda s: GraphMode.PIECEWISE if s.compilation_mode == COMPILED else GraphMode.NONE,
        reason="Encoder-decoder models have no full graphs on Ascend.",
    ),
    Rule(
        "context-parallel",
        f"{_GUIDE}, Current Status on Ascend",
        when=lambda s: s.context_parallel and s.mode is GraphMode.FULL,
        changes="mode",
        to=lambda s: GraphMode.FULL_DECODE_ONLY,
        reason="With context parallelism FULL is not sufficiently supported for batches with prefill.",
    ),
    Rule(
        "whole-graphs-on-soft-partition",
        "vllm-ascend documentation, vNPU: soft partitions share the 2048 streams of the device",
        when=lambda s: s.soft_partitioned and s.has_pieces,
        changes="mode",
        to=lambda s: without_piecewise(s.mode),
        reason="Piecewise graphs take a stream for each piece, and a soft-partitioned NPU (vNPU) shares the streams of "
        "the device with other containers.",
    ),
)

_OUTCOME: tuple[Rule[Situation], ...] = (
    Rule(
        "nothing-to-replay",
        f"{_GUIDE}, Fallback to Eager Mode",
        when=lambda s: s.mode is GraphMode.NONE and RUNTIMES[s.runtime].captures,
        changes="runtime",
        to=lambda s: RuntimeName.EAGER,
        reason="In mode NONE there is no graph.",
    ),
    Rule(
        "sizes-on-950",
        f"{_PLATFORM}, prune_capture_sizes_for_950",
        when=lambda s: s.soc is Soc.ATLAS_A5 and s.has_pieces,
        changes="max_sizes",
        to=lambda s: 4,
        reason="vLLM Ascend keeps 4 sizes of piecewise graphs on 950 until its driver takes more.",
    ),
    Rule(
        "sizes-on-310p",
        "field reports of vLLM Ascend on 310P",
        when=lambda s: s.soc is Soc.ATLAS_300I and s.tensor_parallel_size > 1 and s.mode is not GraphMode.NONE,
        changes="max_sizes",
        to=lambda s: 2,
        reason="310P with tensor parallelism has room for 2 sizes.",
    ),
)
"""What follows from the mode before ranks agree."""

_COMPILER: tuple[Rule[Situation], ...] = (
    Rule(
        "npugraph-ex-on-310p",
        "vllm-ascend 0.23.0, AscendCompilationConfig",
        when=lambda s: s.soc is Soc.ATLAS_300I,
        changes="npugraph_ex",
        to=lambda s: False,
        reason="310P has no npugraph_ex.",
    ),
    Rule(
        "npugraph-ex-needs-the-whole-graph",
        _PLATFORM,
        when=lambda s: s.mode not in STATIC_SHAPE_MODES,
        changes="npugraph_ex",
        to=lambda s: False,
        reason="npugraph_ex works in FULL and FULL_DECODE_ONLY, where the FX graph is not split; the mode is {s.mode}.",
    ),
    Rule(
        "static-kernel-needs-npugraph-ex",
        "vllm-ascend 0.23.0, AscendCompilationConfig",
        when=lambda s: not s.npugraph_ex,
        changes="static_kernel",
        to=lambda s: False,
        reason="Static kernels are compiled by npugraph_ex, which is off.",
    ),
    Rule(
        "static-kernel-on-emulated-npu",
        "the emulated NPU compiles one graph for all sizes",
        when=lambda s: s.emulated,
        changes="static_kernel",
        to=lambda s: False,
        reason="The emulated NPU has no static kernels.",
    ),
)

RULES: tuple[Rule[Situation], ...] = (*_ENGINE, *_RUNTIME, *_MODE, *_OUTCOME, *_COMPILER)
"""All rules but upstream's narrowing, which stands in ``narrowing.NARROWING`` and comes after those of the mode."""


def resolve(situation: Situation) -> tuple[Situation, tuple[Change, ...]]:
    """Apply the rules of engine, runtime and mode, upstream's narrowing, and what ranks have to know to agree.

    Raises:
        PlanError: A rule refuses the deployment.
    """
    situation, changes = apply_rules((*_ENGINE, *_RUNTIME, *_MODE), situation)
    mode, narrowed = narrow(_backend_situation(situation))
    situation, after = apply_rules(_OUTCOME, replace(situation, mode=mode))
    return situation, (*changes, *narrowed, *after)


def resolve_compiler(situation: Situation) -> tuple[Situation, tuple[Change, ...]]:
    """Apply the rules of the compiler's options, which follow from the mode that ranks agree on."""
    return apply_rules(_COMPILER, situation)


def _backend_situation(s: Situation) -> BackendSituation:
    """vllm-ascend splits the FX graph for modes with pieces only, so that static kernels see it whole."""
    return BackendSituation(
        mode=s.mode,
        support=s.backend.support,
        backend=s.backend.value,
        decode_query_len=s.decode_query_len,
        compiled=s.compilation_mode == COMPILED,
        split_at_attention=s.has_pieces,
    )

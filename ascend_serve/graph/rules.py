"""The rules of graph mode on Ascend, as tables that are applied from top to bottom.

Read ``RULES`` as: where *when* holds, *changes* becomes *to*, for that *reason*; without *to* the deployment is
refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ascend_serve.graph.architecture import AttentionBackend
from ascend_serve.graph.hardware import Soc
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.narrowing import BackendSituation, narrow, without_piecewise
from ascend_serve.graph.rule import Change, Rule, apply_rules

XLITE_ARCHITECTURES = frozenset(
    {
        "LlamaForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3VLForConditionalGeneration",
        "Qwen3MoeForCausalLM",
        "Qwen3VLMoeForConditionalGeneration",
        "Glm4MoeForCausalLM",
        "MiniMaxM2ForCausalLM",
    }
)
"""Architectures that ``vllm_ascend/xlite/xlite.py`` (0.23.0) has an adapter for."""

STATIC_SHAPE_MODES = (GraphMode.FULL, GraphMode.FULL_DECODE_ONLY)
"""Modes in which the FX graph stays whole."""

COMPILED = "VLLM_COMPILE"
NOT_COMPILED = "NONE"
"""The two of vLLM's compilation modes that vllm-ascend knows."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules look at, and what they change.

    Attributes:
        runtime: Graph runtime.
        mode: Graph mode.
        requested_mode: The mode the user asked for.
        architecture: Class name of the model.
        backend: Attention backend that vllm-ascend chooses for it.
        encoder_decoder: Whether the model has an encoder of its own.
        soc: Kind of NPU.
        emulated: Whether the NPU is emulated.
        soft_partitioned: Whether the NPU is a soft partition (vNPU), which shares the device's streams.
        tensor_parallel_size: Ranks that share each layer.
        pipeline_parallel_size: Stages of layers.
        data_parallel_size: Engines in the capture group.
        prefill_context_parallel_size: Ranks that share the prefill's context.
        decode_context_parallel_size: Ranks that share the decode's context.
        sequence_parallel: Whether sizes have to be multiples of the tensor-parallel size.
        num_speculative_tokens: Draft tokens per step; 0 without speculative decoding.
        multi_token_prediction: Whether the drafts come from the model's own prediction layers.
        compilation_mode: vLLM's compilation mode, by name.
        xlite_full_mode: Whether Xlite takes prefill, too.
        npugraph_ex: Whether npugraph_ex optimises the FX graph.
        static_kernel: Whether kernels are compiled for fixed shapes.
        launch_blocking: Whether ``ASCEND_LAUNCH_BLOCKING=1`` is set.
        v1_engine: Whether vLLM's V1 engine runs.
        max_sizes: Most capture sizes that the device takes; ``None`` for any number.
    """

    runtime: RuntimeName
    mode: GraphMode
    requested_mode: GraphMode
    architecture: str
    backend: AttentionBackend = AttentionBackend.ATTENTION_V1
    encoder_decoder: bool = False
    soc: Soc = Soc.ATLAS_A2
    emulated: bool = False
    soft_partitioned: bool = False
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    sequence_parallel: bool = False
    num_speculative_tokens: int = 0
    multi_token_prediction: bool = False
    compilation_mode: str = COMPILED
    xlite_full_mode: bool = False
    npugraph_ex: bool = True
    static_kernel: bool = False
    launch_blocking: bool = False
    v1_engine: bool = True
    max_sizes: int | None = None

    @property
    def decode_query_len(self) -> int:
        """Tokens per request in a decode step."""
        return 1 + self.num_speculative_tokens

    @property
    def xlite(self) -> bool:
        """Whether Xlite is still the runtime."""
        return self.runtime is RuntimeName.XLITE

    @property
    def has_pieces(self) -> bool:
        """Whether the mode has piecewise graphs."""
        return without_piecewise(self.mode) is not self.mode

    @property
    def context_parallel(self) -> bool:
        """Whether the context of a request is spread over ranks."""
        return self.prefill_context_parallel_size * self.decode_context_parallel_size > 1


_GUIDE = "vLLM Ascend Graph Mode Guide"
_PLATFORM = "vllm-ascend 0.23.0, NPUPlatform.check_and_update_config"
_XLITE_CONFIG = "vllm-ascend 0.23.0, XliteGraphConfig"

_ENGINE: tuple[Rule[Situation], ...] = (
    Rule(
        "v1-engine-only",
        f"{_GUIDE}, Current Status on Ascend",
        when=lambda s: not s.v1_engine,
        reason="Graph mode exists on vLLM's V1 engine only, and VLLM_USE_V1=0 is set.",
        remedy="Unset VLLM_USE_V1.",
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

XLITE_RULES: tuple[Rule[Situation], ...] = (
    Rule(
        "xlite-architecture",
        "vllm-ascend 0.23.0, xlite/xlite.py",
        when=lambda s: s.xlite and s.architecture not in XLITE_ARCHITECTURES,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite has no adapter for {s.architecture}.",
    ),
    Rule(
        "xlite-pipeline-parallel",
        _XLITE_CONFIG,
        when=lambda s: s.xlite and s.pipeline_parallel_size > 1,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite refuses pipeline parallelism, and pipeline_parallel_size is {s.pipeline_parallel_size}.",
    ),
    Rule(
        "xlite-speculative-decoding",
        _XLITE_CONFIG,
        when=lambda s: s.xlite and s.num_speculative_tokens > 1,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite takes at most 1 speculative token, not {s.num_speculative_tokens}.",
    ),
    Rule(
        "xlite-on-310p",
        f"{_PLATFORM}: 310P has a worker of its own",
        when=lambda s: s.xlite and s.soc is Soc.ATLAS_300I,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="The worker for 310P knows nothing of Xlite.",
    ),
)
"""What Xlite cannot do: the deployment goes on with ACLGraph."""

_RUNTIME: tuple[Rule[Situation], ...] = (
    *XLITE_RULES,
    Rule(
        "eager-runtime",
        f"{_GUIDE}, Fallback to Eager Mode",
        when=lambda s: s.runtime is RuntimeName.EAGER,
        changes="mode",
        to=lambda s: GraphMode.NONE,
        reason="Runtime eager captures nothing.",
    ),
    Rule(
        "xlite-full-mode",
        _PLATFORM,
        when=lambda s: s.xlite and s.xlite_full_mode and s.num_speculative_tokens == 0,
        changes="mode",
        to=lambda s: GraphMode.NONE,
        reason="Xlite in full mode replaces the whole forward, prefill included, so ACLGraph has nothing to capture.",
    ),
    Rule(
        "xlite-decode-only",
        _PLATFORM,
        when=lambda s: s.xlite and not (s.xlite_full_mode and s.num_speculative_tokens == 0),
        changes="mode",
        to=lambda s: GraphMode.FULL_DECODE_ONLY,
        reason="Xlite takes the decode steps, and vLLM Ascend sets the mode that goes with it.",
    ),
)

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
        "pieces-on-soft-partition",
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
        when=lambda s: s.mode is GraphMode.NONE and s.runtime is RuntimeName.ACLGRAPH,
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

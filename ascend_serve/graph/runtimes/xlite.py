"""Xlite: a whole-model program that vLLM Ascend builds when it loads the model; nothing is captured."""

from __future__ import annotations

from ascend_serve.graph.hardware import Soc
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.rule import Rule
from ascend_serve.graph.runtimes.traits import RuntimeTraits
from ascend_serve.graph.situation import Situation

_CONFIG = "vllm-ascend 0.23.0, XliteGraphConfig"
_PLATFORM = "vllm-ascend 0.23.0, NPUPlatform.check_and_update_config"


def _takes_prefill(s: Situation) -> bool:
    return bool(s.options.get("full_mode")) and s.num_speculative_tokens == 0


_REFUSALS: tuple[Rule[Situation], ...] = (
    Rule(
        "xlite-architecture",
        "vllm-ascend, xlite/xlite.py, of the release that the deployment runs on",
        when=lambda s: s.architecture not in s.release.xlite_families,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite has no adapter for {s.architecture} in vllm-ascend {s.release.vllm_ascend}.",
    ),
    Rule(
        "xlite-pipeline-parallel",
        _CONFIG,
        when=lambda s: s.pipeline_parallel_size > 1,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite refuses pipeline parallelism, and pipeline_parallel_size is {s.pipeline_parallel_size}.",
    ),
    Rule(
        "xlite-speculative-decoding",
        _CONFIG,
        when=lambda s: s.num_speculative_tokens > 1,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite takes at most 1 speculative token, not {s.num_speculative_tokens}.",
    ),
    Rule(
        "xlite-lora",
        "vllm-ascend 0.23.0, xlite/xlite.py: the program is made of the model's own weights",
        when=lambda s: s.lora,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite knows nothing of LoRA adapters, and vllm.enable_lora is set.",
    ),
    Rule(
        "xlite-pooling",
        "vllm-ascend 0.23.0, xlite/xlite.py: adapters of generating models",
        when=lambda s: s.pooling,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite runs models that generate, and this one pools.",
    ),
    Rule(
        "xlite-model-runner-v2",
        "vllm-ascend 0.23.0 to 0.30.0rc2, xlite/xlite_model_runner.py: it comes from the first model runner",
        when=lambda s: s.v2_model_runner,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="Xlite runs with vLLM's first model runner, and VLLM_USE_V2_MODEL_RUNNER asks for the second.",
    ),
    Rule(
        "xlite-on-310p",
        f"{_PLATFORM}: 310P has a worker of its own",
        when=lambda s: s.soc is Soc.ATLAS_300I,
        changes="runtime",
        to=lambda s: RuntimeName.ACLGRAPH,
        reason="The worker for 310P knows nothing of Xlite.",
    ),
)

_MODES: tuple[Rule[Situation], ...] = (
    Rule(
        "xlite-full-mode",
        _PLATFORM,
        when=_takes_prefill,
        changes="mode",
        to=lambda s: GraphMode.NONE,
        reason="Xlite in full mode replaces the whole forward, prefill included, so ACLGraph has nothing to capture.",
    ),
    Rule(
        "xlite-decode-without-padding",
        "vllm-ascend 0.30.0rc2, platform.py, where it reads xlite_graph_config",
        when=lambda s: not _takes_prefill(s) and not s.release.xlite_pads_decode,
        changes="mode",
        to=lambda s: GraphMode.NONE,
        reason="Xlite takes decode steps as they are, and vLLM Ascend {s.release.vllm_ascend} has no graph for them.",
    ),
    Rule(
        "xlite-decode-only",
        _PLATFORM,
        when=lambda s: not _takes_prefill(s) and s.release.xlite_pads_decode,
        changes="mode",
        to=lambda s: GraphMode.FULL_DECODE_ONLY,
        reason="Xlite takes the decode steps, and vLLM Ascend sets the mode that goes with it.",
    ),
)

XLITE = RuntimeTraits(
    "Xlite",
    modes=frozenset({GraphMode.NONE, GraphMode.FULL_DECODE_ONLY}),
    lower=RuntimeName.ACLGRAPH,
    lower_mode=GraphMode.FULL_DECODE_ONLY,
    rules=(*_REFUSALS, *_MODES),
    pipelines=False,
    loaded_by="xlite_graph_config",
    package="xlite",
    install="pip install --pre xlite",
)

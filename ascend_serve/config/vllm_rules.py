"""Rules across arguments of ``vllm serve``: what vLLM refuses of a section whose arguments it takes one by one.

Each is vLLM's own, where its docstring says; those of 0.32.0 alone are about arguments that 0.23.0 does not have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from ascend_serve.errors import Problem


def what_goes_together(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """What vLLM refuses of arguments that it takes one by one."""
    for rule in _RULES:
        yield from rule(arguments)


def _server(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``validate_parsed_serve_args`` and ``validate_api_server_args``, 0.23.0 and 0.32.0."""
    if arguments.get("enable_auto_tool_choice") and not arguments.get("tool_call_parser"):
        yield "vllm.enable_auto_tool_choice: true without vllm.tool_call_parser", "Set vllm.tool_call_parser."
    if arguments.get("enable_log_outputs") and not arguments.get("enable_log_requests"):
        yield "vllm.enable_log_outputs: true without vllm.enable_log_requests", "Set vllm.enable_log_requests=true."
    if arguments.get("lora_modules") and not arguments.get("enable_lora"):
        yield "vllm.lora_modules: set, without vllm.enable_lora", "Set vllm.enable_lora=true."
    if arguments.get("enable_per_request_metrics") and arguments.get("disable_log_stats"):
        yield "vllm.enable_per_request_metrics: true with vllm.disable_log_stats", "Leave one of them out."


_DRAFT_OF_THEIR_OWN = ("ngram", "[ngram]", "ngram_gpu", "suffix", "extract_hidden_states", "dspark")
"""Methods of speculative decoding that need no ``model``; those that end in ``mtp`` take the served one's."""


def _drafts(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``SpeculativeConfig.__post_init__``, 0.23.0 and 0.32.0."""
    section = arguments.get("speculative_config")
    if not isinstance(section, Mapping):
        return
    method, least, most = (section.get(name) for name in ("method", "prompt_lookup_min", "prompt_lookup_max"))
    if not section.get("model") and method not in _DRAFT_OF_THEIR_OWN and not str(method).endswith("mtp"):
        said = f"method {method} needs" if method else "neither model nor method, and drafts need"
        yield (
            f"vllm.speculative_config: {said} a model",
            "Set vllm.speculative_config.model, or method: ngram, suffix, or mtp for a model that drafts itself.",
        )
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield (
            f"vllm.speculative_config.prompt_lookup_min: {least} is more than prompt_lookup_max: {most}",
            f"Set vllm.speculative_config.prompt_lookup_min={most}, or less.",
        )


_DRAFTED_BETWEEN_STEPS = ("ngram", "[ngram]", "suffix", "medusa", "mlp_speculator", "custom_class")
"""Methods whose drafts need the tokens of the step before on the host, so that no step can be scheduled ahead."""


def _drafts_ahead(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``VllmConfig.__post_init__``, 0.23.0 and 0.32.0; where nobody says, vLLM schedules such drafts step by step."""
    section = arguments.get("speculative_config")
    if arguments.get("async_scheduling") is not True or not isinstance(section, Mapping):
        return
    if section.get("method") in _DRAFTED_BETWEEN_STEPS:
        yield (
            f"vllm.async_scheduling: true with vllm.speculative_config.method: {section['method']}",
            "Leave vllm.async_scheduling out: vLLM schedules such drafts step by step.",
        )
    if section.get("disable_padded_drafter_batch") is True:
        yield (
            "vllm.async_scheduling: true with vllm.speculative_config.disable_padded_drafter_batch: true",
            "Leave one of them out.",
        )


def _operators(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``CompilationConfig.__post_init__``, 0.23.0 and 0.32.0."""
    section = arguments.get("compilation_config")
    named = section.get("custom_ops") if isinstance(section, Mapping) else None
    if not isinstance(named, list):
        return
    if {"all", "none"} <= {*named}:
        yield "vllm.compilation_config.custom_ops: both all and none", "Give one of them, and +name or -name beside it."
    for name in named:
        if isinstance(name, str) and name not in ("all", "none") and not name.startswith(("+", "-")):
            yield (
                f"vllm.compilation_config.custom_ops: {name} is neither all nor none, +name nor -name",
                f"Write +{name}, or -{name}.",
            )


def _transfer(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``KVTransferConfig.__post_init__``, 0.23.0 and 0.32.0."""
    section = arguments.get("kv_transfer_config")
    if isinstance(section, Mapping) and section.get("kv_connector") and not section.get("kv_role"):
        yield (
            "vllm.kv_transfer_config: kv_connector without kv_role",
            "Set vllm.kv_transfer_config.kv_role: kv_producer, kv_consumer or kv_both.",
        )


_MICROBATCHING = ("deepep_low_latency", "deepep_high_throughput", "nixl_ep")


def _microbatches(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``VllmConfig.__post_init__``, 0.23.0 and 0.32.0."""
    size = arguments.get("ubatch_size")
    if isinstance(size, int) and size > 1 and arguments.get("all2all_backend") not in _MICROBATCHING:
        yield (
            f"vllm.ubatch_size: {size} without a vllm.all2all_backend that takes microbatches",
            f"Leave it out, or set vllm.all2all_backend to one of {', '.join(_MICROBATCHING)}.",
        )


_PROCESSORS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


_DEPRECATED = ("fbgemm_fp8", "fp_quant")


def _quantization(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``ModelConfig`` and ``OnlineQuantizationConfig``, 0.23.0 and 0.32.0."""
    method = arguments.get("quantization")
    if method in _DEPRECATED and not arguments.get("allow_deprecated_quantization"):
        yield f"vllm.quantization: {method} is deprecated", "Set vllm.allow_deprecated_quantization=true, or another."
    if method == "online" and not arguments.get("quantization_config"):
        yield "vllm.quantization: online without vllm.quantization_config", "Say there what becomes of which layers."


def _offload(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``OffloadConfig``, 0.23.0 and 0.32.0."""
    group, taken = arguments.get("offload_group_size") or 0, arguments.get("offload_num_in_group")
    taken = 1 if taken is None else taken
    asked = group or arguments.get("offload_backend") == "prefetch"
    if asked and isinstance(group, int) and isinstance(taken, int) and taken > group:
        yield (
            f"vllm.offload_num_in_group: {taken} is more than vllm.offload_group_size: {group}",
            f"Set vllm.offload_group_size={taken}, or more.",
        )
    if asked and arguments.get("offload_prefetch_step") == 0:
        yield (
            "vllm.offload_prefetch_step: 0, and nothing is fetched in time",
            "Set vllm.offload_prefetch_step=1, or more.",
        )


def _memory_nodes(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``ParallelConfig``, 0.23.0 and 0.32.0."""
    for name in ("numa_bind_nodes", "numa_bind_cpus"):
        given = arguments.get(name)
        if given is None:
            continue
        if not arguments.get("numa_bind"):
            yield f"vllm.{name}: without vllm.numa_bind", "Set vllm.numa_bind=true, or leave it out."
        elif not given:
            yield f"vllm.{name}: empty", "Leave it out, or give one for each rank."
        elif isinstance(given, list) and any(isinstance(each, int) and each < 0 for each in given):
            yield f"vllm.{name}: {given} has numbers below 0", "Nodes of memory count from 0."
        elif name == "numa_bind_cpus" and not all(_PROCESSORS.fullmatch(str(each)) for each in given):
            yield f"vllm.{name}: {given} is not written as numactl wants it", "Write each as 0-3, or as 0,2,4-7."


def _active_requests(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``SchedulerConfig``, 0.32.0."""
    active, most = arguments.get("max_num_active_seqs"), arguments.get("max_num_seqs")
    if isinstance(active, int) and isinstance(most, int) and active > most:
        yield (
            f"vllm.max_num_active_seqs: {active} is more than vllm.max_num_seqs: {most}",
            f"Set vllm.max_num_active_seqs={most}, or less.",
        )


def _states(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``MambaConfig`` and ``VllmConfig``, 0.23.0 and 0.32.0."""
    caches = arguments.get("enable_prefix_caching")
    # Where nobody says, models that pool may be without.
    if arguments.get("mamba_block_size") and (caches is False or (caches is None and arguments.get("pooler_config"))):
        yield "vllm.mamba_block_size: without prefix caching", "Set vllm.enable_prefix_caching=true, or leave it out."
    if arguments.get("mamba_ssu_algorithm") and str(arguments.get("mamba_backend")).lower() != "flashinfer":
        yield (
            "vllm.mamba_ssu_algorithm: set, and only FlashInfer has a choice",
            "Leave it out: NPUs have no FlashInfer.",
        )
    if arguments.get("enable_mamba_cache_stochastic_rounding") and arguments.get("mamba_ssm_cache_dtype") != "float16":
        yield (
            "vllm.enable_mamba_cache_stochastic_rounding: true, and only states in float16 are rounded so",
            "Set vllm.mamba_ssm_cache_dtype=float16, or leave it out.",
        )


_OF_OTHER_DEVICES = ("flashkda", "fused")


def _kernels_of_other_devices(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``EngineArgs.create_engine_config`` and ``ModelConfig.verify_with_parallel_config``, 0.32.0."""
    if arguments.get("enable_hc_sp"):
        yield "vllm.enable_hc_sp: true is for GPUs alone", "Leave it out."
    if arguments.get("kda_prefill_backend") in _OF_OTHER_DEVICES:
        yield f"vllm.kda_prefill_backend: {arguments['kda_prefill_backend']} is for GPUs alone", "Leave it out."


def _metrics(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``ObservabilityConfig``, 0.23.0 and 0.32.0, and ``VllmConfig``, 0.32.0."""
    version = arguments.get("show_hidden_metrics_for_version")
    if isinstance(version, str) and not _is_version(version):
        yield f"vllm.show_hidden_metrics_for_version: {version} is no version", "Write a release of vLLM, as 0.32."
    told = arguments.get("per_request_spec_decode_metrics")
    if told not in (None, "none") and not arguments.get("speculative_config"):
        yield (
            f"vllm.per_request_spec_decode_metrics: {told} without vllm.speculative_config",
            "Leave it out where nothing is drafted.",
        )


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"
_OF_THE_OTHER_RUNNER = (
    "enable_batch_sharded_sampling",
    "enable_trace_replay",
    "return_sampling_mask",
    "watermark_config",
)


def _model_runner(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``VllmConfig``, 0.32.0: what Model Runner V2 alone can do."""
    if os.environ.get(RUNNER_VARIABLE, "0").lower() in ("1", "true"):
        return
    for name in _OF_THE_OTHER_RUNNER:
        if arguments.get(name) not in (None, False):
            yield f"vllm.{name}: vLLM's Model Runner V2 alone can do it, and it is not asked for", "Leave it out."


_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[Problem]], ...] = (
    _server,
    _drafts,
    _drafts_ahead,
    _transfer,
    _operators,
    _microbatches,
    _quantization,
    _offload,
    _memory_nodes,
    _active_requests,
    _states,
    _kernels_of_other_devices,
    _metrics,
    _model_runner,
)

"""The configuration as the rules and the stream costs see it."""

from __future__ import annotations

from collections.abc import Mapping

from ascend_serve.config.combinations import wants_npugraph_ex
from ascend_serve.config.schema import BUILT_IN_MODEL, AscendServeConfig
from ascend_serve.config.vllm_rules import RUNNER_VARIABLE
from ascend_serve.errors import ConfigError
from ascend_serve.graph.architecture import Architecture
from ascend_serve.graph.situation import Situation
from ascend_serve.graph.stream_costs import EXPANSION_MODE, ExpansionMode, StreamLayout
from ascend_serve.planning.model_config import read_architecture, read_card
from ascend_serve.planning.pooling import is_pooling
from ascend_serve.planning.settings import EngineSettings, read_settings
from ascend_serve.releases import DEFAULT, ModelRunner, installed_version, nearest

AIV_BY_DEFAULT = frozenset({"MiniMaxM2ForCausalLM"})
"""Architectures for which vllm-ascend sets AIV where nothing is set (``patch_minimax_m2_config.py``, 0.23.0)."""


def architecture_of(config: AscendServeConfig) -> Architecture:
    """The architecture of the configured model.

    Raises:
        ModelError: The model can neither be read nor is there an architecture card of its name.
    """
    if config.model.is_built_in:
        return read_card(BUILT_IN_MODEL)
    overrides = config.vllm.get("hf_overrides")
    return read_architecture(config.model.path, overrides=overrides if isinstance(overrides, Mapping) else {})


def read_situation(config: AscendServeConfig, environment: Mapping[str, str]) -> Situation:
    """What the rules of graph mode look at, with the model's files and the ``vllm:`` section read.

    Raises:
        ModelError: The model can neither be read nor is there an architecture card of its name.
        ConfigError: An option that planning reads has a wrong value.
    """
    return situation_of(config, architecture_of(config), read_settings(config.vllm), environment)


def situation_of(
    config: AscendServeConfig, architecture: Architecture, settings: EngineSettings, environment: Mapping[str, str]
) -> Situation:
    """What the rules of graph mode look at."""
    parallel, graph = config.parallel, config.graph
    speculative = settings.speculative_config
    release = DEFAULT if config.emulated.npus else nearest(installed_version())
    runner_asked = environment.get(RUNNER_VARIABLE)
    return Situation(
        runtime=graph.runtime,
        mode=graph.mode,
        requested_mode=graph.mode,
        architecture=architecture.name,
        backend=architecture.backend,
        encoder_decoder=architecture.is_encoder_decoder,
        pooling=is_pooling(architecture, settings, config.model.path),
        lora=settings.enable_lora,
        soc=config.hardware.soc,
        release=release,
        emulated=config.emulated.npus > 0,
        soft_partitioned=config.hardware.stream_quota is not None,
        tensor_parallel_size=parallel.tensor_parallel_size,
        pipeline_parallel_size=parallel.pipeline_parallel_size,
        data_parallel_size=parallel.data_parallel_size,
        prefill_context_parallel_size=settings.prefill_context_parallel_size,
        decode_context_parallel_size=settings.decode_context_parallel_size,
        sequence_parallel=parallel.tensor_parallel_size > 1
        and settings.sequence_parallel(environment, parallel.enable_expert_parallel),
        num_speculative_tokens=settings.num_speculative_tokens,
        multi_token_prediction=speculative is not None and speculative.multi_token_prediction,
        compilation_mode=settings.compilation_config.mode,
        runtime_options=graph.runtime_options,
        npugraph_ex=wants_npugraph_ex(config),
        static_kernel=graph.npugraph_ex.static_kernel,
        launch_blocking=environment.get("ASCEND_LAUNCH_BLOCKING", "0") == "1",
        v1_engine=environment.get("VLLM_USE_V1", "1") != "0",
        v2_model_runner=runner_asked != "0" if runner_asked else release.runner is ModelRunner.V2,
    )


def stream_layout(
    config: AscendServeConfig, architecture: Architecture, settings: EngineSettings, environment: Mapping[str, str]
) -> StreamLayout:
    """What the streams of a graph depend on. Layers are those of the largest pipeline stage."""
    parallel = config.parallel
    speculative = settings.speculative_config
    return StreamLayout(
        num_layers=-(-architecture.num_hidden_layers // parallel.pipeline_parallel_size),
        num_draft_layers=speculative.draft_layers(architecture) if speculative else 0,
        tensor_parallel_size=parallel.tensor_parallel_size,
        data_parallel_size=parallel.data_parallel_size,
        prefill_context_parallel_size=settings.prefill_context_parallel_size,
        decode_context_parallel_size=settings.decode_context_parallel_size,
        expert_parallel=parallel.enable_expert_parallel,
        shared_expert_overlap=settings.additional_config.multistream_overlap_shared_expert,
        moe=architecture.is_moe,
        expansion_mode=expansion_mode(config, architecture, environment),
    )


def expansion_mode(
    config: AscendServeConfig, architecture: Architecture, environment: Mapping[str, str]
) -> ExpansionMode | None:
    """Where HCCL unfolds collectives: the configuration's, else the environment's, else vllm-ascend's default.

    Raises:
        ConfigError: The environment has a value that HCCL does not know.
    """
    if config.hardware.hccl_op_expansion_mode is not None:
        return config.hardware.hccl_op_expansion_mode
    value = environment.get(EXPANSION_MODE)
    if not value:
        return ExpansionMode.AIV if architecture.name in AIV_BY_DEFAULT else None
    try:
        return ExpansionMode(value)
    except ValueError as error:
        allowed = ", ".join(ExpansionMode)
        raise ConfigError(f"{EXPANSION_MODE}={value} is not known", f"Set it to one of {allowed}.") from error

"""Rules across sections: combinations that cannot work, and options that have no effect beside others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from ascend_serve.config.passthrough import collisions
from ascend_serve.config.schema import (
    AscendServeConfig,
    EmulatedRuntimeConfig,
    FaultConfig,
    FaultError,
    Ingress,
    LostRequests,
    StreamsOutlive,
    WeightsFrom,
)
from ascend_serve.config.serve_options import serve_option_problems
from ascend_serve.config.vllm_arguments import argument_problems
from ascend_serve.errors import ConfigError, Problem
from ascend_serve.graph.modes import GraphMode, OnFailure, Replan, RuntimeName
from ascend_serve.graph.runtimes import RUNTIMES


def check(config: AscendServeConfig, source: str = "configuration") -> None:
    """Refuse combinations of options that cannot work on any hardware.

    Args:
        config: The configuration.
        source: What to name in front of several problems, for example the file.

    Raises:
        ConfigError: With every such combination, why it cannot work, and what to change.
    """
    problems = [problem for rule in _CONFLICTS for problem in rule(config)]
    if problems:
        raise ConfigError.of(source, problems)


def ineffective_options(config: AscendServeConfig) -> tuple[str, ...]:
    """One sentence for each option that the user set and that has no effect beside the others."""
    return tuple(sentence for rule in _INEFFECTIVE for sentence in rule(config))


def wants_npugraph_ex(config: AscendServeConfig) -> bool:
    """Whether the configuration asks for npugraph_ex; where it does not say, NPUs have it and emulated ones do not.

    On an emulated NPU it is Inductor, which makes other roundings than eager mode and a start tens of seconds longer.
    """
    enabled = config.graph.npugraph_ex.enabled
    return config.emulated.npus == 0 if enabled is None else enabled


def compiles_on_host(config: AscendServeConfig) -> bool:
    """Whether a C++ compiler is needed: Inductor, which stands in for npugraph_ex, calls one."""
    return config.emulated.npus > 0 and wants_npugraph_ex(config)


def _static_kernel_needs_npugraph_ex(config: AscendServeConfig) -> Iterator[Problem]:
    npugraph_ex = config.graph.npugraph_ex
    if npugraph_ex.static_kernel and npugraph_ex.enabled is False:
        yield (
            "graph.npugraph_ex.static_kernel: true with graph.npugraph_ex.enabled: false; "
            "static kernels are compiled by npugraph_ex",
            "Set graph.npugraph_ex.enabled=true, or graph.npugraph_ex.static_kernel=false.",
        )


def _no_way_down_from_a_pipeline(config: AscendServeConfig) -> Iterator[Problem]:
    """A group that may degrade goes on with the lower runtime where one refuses pipelines; another cannot start."""
    runtime, stages = config.graph.runtime, config.parallel.pipeline_parallel_size
    traits = RUNTIMES[runtime]
    if not traits.pipelines and stages > 1 and config.graph.on_failure is OnFailure.FAIL:
        yield (
            f"graph.runtime: {runtime} with parallel.pipeline_parallel_size: {stages}; "
            f"{traits.title} refuses pipeline parallelism",
            f"Set parallel.pipeline_parallel_size=1, or graph.runtime={traits.lower}.",
        )


def _quota_for_each_rank(config: AscendServeConfig) -> Iterator[Problem]:
    quota, world = config.emulated.stream_quota, config.parallel.world_size
    if isinstance(quota, tuple) and len(quota) != world:
        yield (
            f"emulated.stream_quota: {list(quota)} has {len(quota)} numbers for {world} ranks",
            "Give one number for all ranks, or one per rank.",
        )


def _faults_on_existing_ranks(config: AscendServeConfig) -> Iterator[Problem]:
    world = config.parallel.world_size
    for index, fault in enumerate(config.emulated.faults):
        if fault.rank >= world:
            yield (
                f"emulated.faults[{index}].rank: {fault.rank}, but the ranks are 0 to {world - 1}",
                f"Give a rank from 0 to {world - 1}, or larger parallel sizes.",
            )


def _scripted_runtimes_on_existing_ranks(config: AscendServeConfig) -> Iterator[Problem]:
    world = config.parallel.world_size
    for name in _runtime_sections(config.emulated):
        script: EmulatedRuntimeConfig = getattr(config.emulated, name)
        named = [("missing_on", rank) for rank in script.missing_on] + [("versions", rank) for rank in script.versions]
        for key, rank in named:
            if not 0 <= rank < world:
                yield (
                    f"emulated.{name}.{key}: {rank}, but the ranks are 0 to {world - 1}",
                    f"Give ranks from 0 to {world - 1}, or larger parallel sizes.",
                )


_NOT_EMULATED: Mapping[str, str] = {
    "enable_cumem_allocator": "they have no memory of their own",
    "enable_eplb": "experts cannot be moved between them",
    "enable_return_routed_experts": "their model runner does not hand them out",
    "enable_sleep_mode": "their memory cannot be given back and taken again",
    "prefill_context_parallel_size": "their model runner has no such parallelism",
}
"""What vLLM refuses on its CPU backend (``ParallelConfig``, ``ModelConfig``, ``VllmConfig``), and what that means."""


def _emulated_npus_lack(config: AscendServeConfig) -> Iterator[Problem]:
    asked = {name: config.vllm.get(name) for name in _NOT_EMULATED if config.emulated.npus}
    for name, value in asked.items():
        if value is True or (isinstance(value, int) and value > 1):
            problem = f"vllm.{name}: {str(value).lower()} on emulated NPUs: {_NOT_EMULATED[name]}"
            yield problem, "Leave it out, or set emulated.npus=0 for real NPUs."


def _passthrough_leaves_our_keys_alone(config: AscendServeConfig) -> Iterator[Problem]:
    yield from collisions(config.vllm)


def _vllm_takes_its_arguments(config: AscendServeConfig) -> Iterator[Problem]:
    yield from argument_problems(config.vllm)


def _serve_takes_its_options(config: AscendServeConfig) -> Iterator[Problem]:
    yield from serve_option_problems(config.serving)


def _graph_options_without_graphs(config: AscendServeConfig) -> Iterator[str]:
    graph = config.graph
    replays = bool(RUNTIMES[graph.runtime].modes)
    if not replays and "mode" in graph.model_fields_set and graph.mode is not GraphMode.NONE:
        yield f"graph.mode: {graph.mode} has no effect with graph.runtime: {graph.runtime}"
    if _captures(config):
        return
    reason = "graph.mode: NONE" if replays else f"graph.runtime: {graph.runtime}"
    yield from _set_keys(
        graph,
        "graph.",
        ("capture_sizes", "on_failure", "npugraph_ex", "deadlines", "workload", "replan", "replan_saving"),
        reason,
    )


def _replan_over_engines(config: AscendServeConfig) -> Iterator[Problem]:
    engines = config.parallel.data_parallel_size
    if config.graph.replan is Replan.IDLE and engines > 1:
        yield (
            f"graph.replan: idle with parallel.data_parallel_size: {engines}; "
            "the engines of one group are never idle together",
            "Set graph.replan=off, and choose sizes with `ascend-serve plan --histogram`.",
        )


def _replan_of_nothing(config: AscendServeConfig) -> Iterator[str]:
    runtime = config.graph.runtime
    if _captures(config) and not RUNTIMES[runtime].captures:
        yield from _set_keys(config.graph, "graph.", ("replan",), f"graph.runtime: {runtime}, which captures nothing")


def _saving_without_replanning(config: AscendServeConfig) -> Iterator[str]:
    if _captures(config) and config.graph.replan is Replan.OFF:
        yield from _set_keys(config.graph, "graph.", ("replan_saving",), "graph.replan: off")


def _workload_that_chooses_nothing(config: AscendServeConfig) -> Iterator[str]:
    workload = config.graph.workload
    if not _captures(config):
        return
    if config.graph.capture_sizes is not None:
        yield from _set_keys(config.graph, "graph.", ("workload",), "graph.capture_sizes")
    elif workload.trace is None:
        yield from _set_keys(workload, "graph.workload.", ("step_ms",), "no graph.workload.trace")


def _hardware_beside_emulation(config: AscendServeConfig) -> Iterator[str]:
    npus = config.emulated.npus
    if npus:
        names = ("soc", "nodes", "npus_per_node", "stream_quota")
        yield from _set_keys(config.hardware, "hardware.", names, f"emulated.npus: {npus}")


def _options_of_other_runtimes(config: AscendServeConfig) -> Iterator[str]:
    reason = f"graph.runtime: {config.graph.runtime}"
    yield from _set_keys(config.graph, "graph.", _runtime_sections(config.graph, but=config.graph.runtime), reason)
    if config.emulated.npus:
        others = _runtime_sections(config.emulated, but=config.graph.runtime)
        yield from _set_keys(config.emulated, "emulated.", others, reason)


def _emulated_options_without_emulation(config: AscendServeConfig) -> Iterator[str]:
    if config.emulated.npus == 0:
        names = ("stream_quota", "faults", *_runtime_sections(config.emulated))
        yield from _set_keys(config.emulated, "emulated.", names, "emulated.npus: 0")


def _client_certificates_that_nobody_asks_for(config: AscendServeConfig) -> Iterator[str]:
    """Ray Serve 2.60 (``http_util.py``) hands the file to uvicorn, and leaves uvicorn's ``ssl_cert_reqs`` at none."""
    if "ssl_ca_certs" in config.serving.http_options:
        yield "serving.http_options.ssl_ca_certs has no effect: Ray Serve asks no client for a certificate"


def _streams_that_nobody_keeps(config: AscendServeConfig) -> Iterator[str]:
    serving = config.serving
    if serving.recovery.streams is StreamsOutlive.REPLICA:
        if serving.ingress is not Ingress.HAPROXY:
            yield f"serving.recovery.streams: replica has no effect with serving.ingress: {serving.ingress}"
        if serving.recovery.requests is LostRequests.FAIL:
            yield "serving.recovery.streams: replica has no effect with serving.recovery.requests: fail"


def _weights_that_nobody_holds(config: AscendServeConfig) -> Iterator[str]:
    recovery, engines = config.serving.recovery, config.parallel.data_parallel_size
    if "weights" in recovery.model_fields_set and recovery.weights is WeightsFrom.HOST:
        if not recovery.spares:
            yield "serving.recovery.weights: host has no effect with serving.recovery.spares: false"
        if engines > 1:
            yield f"serving.recovery.weights: host has no effect with parallel.data_parallel_size: {engines}"


def _faults_that_never_strike(config: AscendServeConfig) -> Iterator[str]:
    for index, fault in enumerate(config.emulated.faults if config.emulated.npus else ()):
        reason = _never_strikes(fault, config)
        if reason:
            yield f"emulated.faults[{index}] never strikes: {reason}"


def _signals_that_end_nothing(config: AscendServeConfig) -> Iterator[str]:
    for index, fault in enumerate(config.emulated.faults if config.emulated.npus else ()):
        if "signal" in fault.model_fields_set and fault.error is not FaultError.CRASH:
            yield f"emulated.faults[{index}].signal has no effect with error: {fault.error.value}"


def _never_strikes(fault: FaultConfig, config: AscendServeConfig) -> str:
    sizes = config.graph.capture_sizes
    if fault.phase in ("warmup", "capture") and not _captures(config):
        return f"nothing is captured with graph.runtime: {config.graph.runtime} and graph.mode: {config.graph.mode}"
    if fault.phase in ("warmup", "capture") and fault.size and sizes and fault.size not in sizes:
        return f"size {fault.size} is not in graph.capture_sizes: {list(sizes)}"
    if fault.size and fault.phase not in ("warmup", "capture", "serve"):
        return f"phase {fault.phase} has no size"
    return ""


def _captures(config: AscendServeConfig) -> bool:
    """Whether anything is captured, by the runtime or by the one below it."""
    traits = RUNTIMES[config.graph.runtime]
    return traits.brings_mode or (traits.captures and config.graph.mode is not GraphMode.NONE)


def _runtime_sections(section: BaseModel, *, but: RuntimeName | None = None) -> tuple[str, ...]:
    """Sections below ``section`` that have the name of a runtime, another than ``but``."""
    return tuple(name.value for name in RuntimeName if name.value in type(section).model_fields and name is not but)


def _set_keys(section: BaseModel, prefix: str, names: tuple[str, ...], reason: str) -> Iterator[str]:
    """A sentence for each of ``names`` that the user set to something other than its default."""
    for name in names:
        value = getattr(section, name)
        if name not in section.model_fields_set or value == type(section).model_fields[name].get_default(
            call_default_factory=True
        ):
            continue
        if isinstance(value, BaseModel):
            yield from _set_keys(value, f"{prefix}{name}.", tuple(value.model_fields_set), reason)
        else:
            yield f"{prefix}{name} has no effect with {reason}"


_CONFLICTS: tuple[Callable[[AscendServeConfig], Iterator[Problem]], ...] = (
    _static_kernel_needs_npugraph_ex,
    _no_way_down_from_a_pipeline,
    _quota_for_each_rank,
    _faults_on_existing_ranks,
    _scripted_runtimes_on_existing_ranks,
    _emulated_npus_lack,
    _passthrough_leaves_our_keys_alone,
    _vllm_takes_its_arguments,
    _serve_takes_its_options,
    _replan_over_engines,
)

_INEFFECTIVE: tuple[Callable[[AscendServeConfig], Iterator[str]], ...] = (
    _graph_options_without_graphs,
    _options_of_other_runtimes,
    _workload_that_chooses_nothing,
    _replan_of_nothing,
    _saving_without_replanning,
    _hardware_beside_emulation,
    _emulated_options_without_emulation,
    _faults_that_never_strike,
    _signals_that_end_nothing,
    _client_certificates_that_nobody_asks_for,
    _streams_that_nobody_keeps,
    _weights_that_nobody_holds,
)

"""From a configuration to the plan of a deployment: the one place where all decisions come together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config.combinations import ineffective_options
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.translate import engine_args
from ascend_serve.graph.architecture import Architecture
from ascend_serve.graph.ladder import ladder_steps
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.narrowing import NARROWING
from ascend_serve.graph.plan import Adjustment, Switch
from ascend_serve.graph.rule import Change
from ascend_serve.graph.rules import RULES, resolve, resolve_compiler
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.graph.situation import Situation
from ascend_serve.graph.sizes import eager_share, padding_waste
from ascend_serve.graph.stream_costs import StreamLayout, streams_per_size
from ascend_serve.planning.deployment import CaptureFigures, DeploymentPlan, ModelFigures
from ascend_serve.planning.dry_run import DryRun, dry_run
from ascend_serve.planning.estimate import capture_memory_gib, capture_seconds
from ascend_serve.planning.ineffective import without_effect
from ascend_serve.planning.memory import MemoryFigures, memory_figures
from ascend_serve.planning.model_limits import check_model_limits
from ascend_serve.planning.planned_placement import plan_placement
from ascend_serve.planning.settings import EngineSettings, read_settings
from ascend_serve.planning.situation import architecture_of, situation_of, stream_layout
from ascend_serve.planning.sizing import SIZE_RULES, SizesAsked, batches_without_graph, sizes_asked


def plan_deployment(
    config: AscendServeConfig,
    *,
    measured_budget: int | None = None,
    environment: Mapping[str, str] | None = None,
    nodes: Sequence[NodeOffer] | None = None,
) -> DeploymentPlan:
    """Plan a deployment, without any hardware.

    Args:
        config: The configuration.
        measured_budget: Streams for graphs that a start on this hardware has measured; replaces the prior.
        environment: Environment variables; those of this process when not given.
        nodes: What the nodes of a given cluster offer; the machines that the configuration describes when not given.

    Raises:
        PlanError: The deployment cannot work, with what to change.
        ClusterError: It does not fit on ``nodes``, with the arithmetic.
        ModelError: The model can neither be read nor is there an architecture card of its name.
        ConfigError: An option that planning reads has a wrong value, or the model cannot do what is asked.
    """
    environment = os.environ if environment is None else environment
    architecture = architecture_of(config)
    settings = read_settings(config.vllm)
    check_model_limits(config, architecture, settings, environment)
    situation, changes = resolve(situation_of(config, architecture, settings, environment))
    layout = stream_layout(config, architecture, settings, environment)
    asked = sizes_asked(config, settings, situation)
    run = dry_run(config, settings, situation, asked, layout, measured_budget=measured_budget)
    # What follows from the mode waits for the mode that ranks agree on.
    situation, options = resolve_compiler(replace(situation, runtime=run.plan.runtime, mode=run.plan.mode))
    placement, placement_notes = plan_placement(config, layout.expansion_mode, nodes)
    adjustments = (*_adjustments(config, (*changes, *options)), *asked.adjustments, *run.plan.adjustments)
    capture = _capture_figures(config, run, layout, asked)
    memory = memory_figures(config, architecture, settings, capture.memory_gib.high if capture.memory_gib else None)
    return DeploymentPlan(
        release="" if situation.emulated else situation.release.vllm_ascend,
        model=_model_figures(config, architecture),
        requested_runtime=config.graph.runtime,
        runtime=run.plan.runtime,
        requested_mode=config.graph.mode,
        mode=run.plan.mode,
        npugraph_ex=_switch(situation.npugraph_ex, "npugraph_ex", options, _npugraph_ex_reason(config, situation)),
        static_kernel=_switch(situation.static_kernel, "static_kernel", options, _static_reason(config)),
        max_num_seqs=settings.max_num_seqs,
        decode_query_len=situation.decode_query_len,
        lora_cases=settings.lora_cases,
        on_failure=config.graph.on_failure,
        capture=capture,
        memory=memory,
        adjustments=adjustments,
        rule_sources=_sources(adjustments),
        no_effect=(*ineffective_options(config), *without_effect(config, situation, layout)),
        notes=(
            *batches_without_graph(asked, run.plan.capture_sizes, settings, situation),
            *placement_notes,
            *_notes(situation),
            *_model_notes(architecture),
            *_memory_notes(memory),
        ),
        placement=placement,
        ladder=ladder_steps(run.started),
        weights=asked.weights,
        vllm_arguments=_arguments(config, settings, situation, run),
    )


def _model_figures(config: AscendServeConfig, architecture: Architecture) -> ModelFigures:
    return ModelFigures(
        path=config.model.path,
        source=architecture.source,
        architecture=architecture.name,
        num_hidden_layers=architecture.num_hidden_layers,
        parameters=architecture.parameters,
        attention_backend=" + ".join(architecture.backends),
        graph_support=architecture.backend.support.name,
    )


def _switch(on: bool, field: str, changes: Sequence[Change], otherwise: str) -> Switch:
    reasons = [change.adjustment.reason for change in changes if change.field == field]
    return Switch(on=on, reason=reasons[-1] if reasons else otherwise)


def _npugraph_ex_reason(config: AscendServeConfig, situation: Situation) -> str:
    enabled = config.graph.npugraph_ex.enabled
    if enabled is None and config.emulated.npus:
        return "Off unless asked for on emulated NPUs, where Inductor stands in for it."
    if enabled is None:
        return f"On by default in mode {situation.mode}."
    return f"Turned {'on' if enabled else 'off'} by graph.npugraph_ex.enabled: {str(enabled).lower()}."


def _static_reason(config: AscendServeConfig) -> str:
    if config.graph.npugraph_ex.static_kernel:
        return "Asked for; compiling takes minutes to tens of minutes at start-up."
    return "Off unless asked for: compiling takes minutes to tens of minutes at start-up."


def _adjustments(config: AscendServeConfig, changes: Iterable[Change]) -> tuple[Adjustment, ...]:
    """What was narrowed of what the user asked for; options that were on by default only are no narrowing."""
    asked = {
        "npugraph_ex": config.graph.npugraph_ex.enabled is True,
        "static_kernel": config.graph.npugraph_ex.static_kernel,
        "max_sizes": False,
        # Where a runtime brings its own mode, nobody loses one that was not asked for.
        "mode": "mode" in config.graph.model_fields_set or not RUNTIMES[config.graph.runtime].brings_mode,
    }
    return tuple(change.adjustment for change in changes if asked.get(change.field, True))


def _capture_figures(config: AscendServeConfig, run: DryRun, layout: StreamLayout, asked: SizesAsked) -> CaptureFigures:
    keys, sizes, cases = run.plan.keys, run.plan.capture_sizes, len(run.request.lora_cases)
    estimated = bool(keys) and not config.emulated.npus
    return CaptureFigures(
        sizes=sizes,
        multiple_of=asked.candidates[0] if asked.candidates else 1,
        largest_batch=asked.candidates[-1] if asked.candidates else 0,
        graphs=len(keys),
        streams=run.budget.cost(keys),
        streams_per_size=cases * streams_per_size(layout, run.started.mode),
        stream_budget=run.budget.total or 0,
        budget_source=run.budget_source,
        workload=asked.workload,
        padding_waste=padding_waste(sizes, asked.weights),
        eager_share=eager_share(sizes, asked.weights) if keys else 0.0,
        seconds=capture_seconds(keys, layout.num_layers) if estimated else None,
        memory_gib=capture_memory_gib(keys, layout.num_layers) if estimated else None,
    )


def _sources(adjustments: Iterable[Adjustment]) -> dict[str, str]:
    known = {rule.name: rule.source for rule in RULES} | {rule.name: rule.source for rule in NARROWING} | SIZE_RULES
    return {adjustment.rule: known[adjustment.rule] for adjustment in adjustments}


def _notes(situation: Situation) -> tuple[str, ...]:
    notes = []
    if situation.static_kernel:
        notes.append("Static kernels add minutes to tens of minutes to the start, which the estimate leaves out.")
    if situation.soft_partitioned and situation.mode is not GraphMode.NONE:
        notes.append("The streams of a soft-partitioned NPU are shared: other containers must keep to their quotas.")
    return tuple(notes)


def _model_notes(architecture: Architecture) -> Iterator[str]:
    if not architecture.architectures:
        yield (
            f"{architecture.source} names no class under architectures: vLLM takes the base class of "
            f"{architecture.model_type or 'its model_type'}, which answers with embeddings; for text set "
            "vllm.hf_overrides={architectures: [CLASS]}."
        )


def _memory_notes(memory: MemoryFigures) -> Iterator[str]:
    if memory.fits is False:
        yield (
            f"It does not fit: the KV cache has room for {memory.kv_tokens} tokens at most, and the longest request "
            f"has {memory.longest_request}, so vLLM will refuse. Lower vllm.max_model_len, spread the model over more "
            "NPUs, or give the KV cache more (vllm.gpu_memory_utilization, vllm.kv_cache_memory_bytes)."
        )


def _arguments(
    config: AscendServeConfig, settings: EngineSettings, situation: Situation, run: DryRun
) -> dict[str, Any]:
    """The exact arguments, with ``max_num_seqs`` written out, as the sizes were chosen for it."""
    pinned = config.model_copy(update={"vllm": {**config.vllm, "max_num_seqs": settings.max_num_seqs}})
    return engine_args(
        pinned,
        run.started,
        mode=run.plan.mode,
        npugraph_ex=situation.npugraph_ex,
        static_kernel=situation.static_kernel,
    )

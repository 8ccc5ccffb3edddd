"""From a configuration to the plan of a deployment: the one place where all decisions come together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config.combinations import ineffective_options
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.translate import engine_args
from ascend_serve.graph.architecture import Architecture
from ascend_serve.graph.keys import GraphKey, capture_keys
from ascend_serve.graph.ladder import ladder_steps
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.narrowing import NARROWING
from ascend_serve.graph.plan import Adjustment, GraphRequest, Switch
from ascend_serve.graph.rule import Change
from ascend_serve.graph.rules import OPTION_FIELDS, RULES, Situation, resolve, resolve_options
from ascend_serve.graph.sizes import eager_share, padding_waste
from ascend_serve.graph.stream_costs import StreamLayout, streams_per_size
from ascend_serve.planning.deployment import CaptureFigures, DeploymentPlan, LadderStep, ModelFigures
from ascend_serve.planning.estimate import capture_memory_gib, capture_seconds
from ascend_serve.planning.ineffective import without_effect
from ascend_serve.planning.planned_placement import plan_placement
from ascend_serve.planning.settings import EngineSettings, read_settings
from ascend_serve.planning.situation import architecture_of, situation_of, stream_layout
from ascend_serve.planning.sizing import SIZE_RULES, Sizing, choose_sizes


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
        ConfigError: An option that planning reads has a wrong value.
    """
    environment = os.environ if environment is None else environment
    architecture = architecture_of(config)
    settings = read_settings(config.vllm)
    asked = situation_of(config, architecture, settings, environment)
    situation, changes = resolve(asked)
    layout = stream_layout(config, architecture, settings, environment)
    sizing = choose_sizes(config, settings, situation, layout, measured_budget)
    if sizing.mode is not situation.mode:
        situation, changes = _in_cheaper_mode(asked, situation, sizing.mode, changes)
    placement, placement_notes = plan_placement(config, layout.expansion_mode, nodes)
    request = _request(config, settings, situation, sizing)
    adjustments = (*_adjustments(config, changes), *sizing.adjustments)
    return DeploymentPlan(
        model=_model_figures(config, architecture),
        requested_runtime=config.graph.runtime,
        runtime=situation.runtime,
        requested_mode=config.graph.mode,
        mode=situation.mode,
        npugraph_ex=_switch(situation.npugraph_ex, "npugraph_ex", changes, _npugraph_ex_reason(config, situation)),
        static_kernel=_switch(situation.static_kernel, "static_kernel", changes, _static_reason(config)),
        max_num_seqs=settings.max_num_seqs,
        decode_query_len=situation.decode_query_len,
        lora_cases=settings.lora_cases,
        on_failure=config.graph.on_failure,
        capture=_capture_figures(config, request, layout, sizing),
        adjustments=adjustments,
        rule_sources=_sources(adjustments),
        no_effect=(*ineffective_options(config), *without_effect(config, situation, layout)),
        notes=(*sizing.notes, *placement_notes, *_notes(situation)),
        placement=placement,
        ladder=tuple(
            LadderStep(runtime=step.runtime, mode=step.mode, text=step.text) for step in ladder_steps(request)
        ),
        weights=dict(request.weights),
        vllm_arguments=_arguments(config, settings, situation, sizing),
    )


def _in_cheaper_mode(
    asked: Situation, situation: Situation, mode: GraphMode, changes: tuple[Change, ...]
) -> tuple[Situation, tuple[Change, ...]]:
    """Where streams forced a cheaper mode, what follows from the mode is decided again."""
    runtime = RuntimeName.EAGER if mode is GraphMode.NONE else situation.runtime
    again = {field: getattr(asked, field) for field in OPTION_FIELDS}
    settled, later = resolve_options(replace(situation, mode=mode, runtime=runtime, **again))
    return settled, (*(change for change in changes if change.field not in OPTION_FIELDS), *later)


def _request(config: AscendServeConfig, settings: EngineSettings, situation: Situation, sizing: Sizing) -> GraphRequest:
    return GraphRequest(
        runtime=situation.runtime,
        # Xlite captures nothing: its modes say how batches are padded. What follows it on the ladder captures whole.
        mode=GraphMode.FULL_DECODE_ONLY if situation.xlite else situation.mode,
        capture_sizes=sizing.sizes,
        on_failure=config.graph.on_failure,
        max_num_seqs=settings.max_num_seqs,
        decode_query_len=situation.decode_query_len,
        lora_cases=settings.lora_cases,
        weights=sizing.weights,
    )


def _model_figures(config: AscendServeConfig, architecture: Architecture) -> ModelFigures:
    return ModelFigures(
        path=config.model.path,
        source=architecture.source,
        architecture=architecture.name,
        num_hidden_layers=architecture.num_hidden_layers,
        parameters=architecture.parameters,
        attention_backend=architecture.backend.value,
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
        # Xlite brings its own mode: nobody loses one that was not asked for.
        "mode": "mode" in config.graph.model_fields_set or config.graph.runtime is not RuntimeName.XLITE,
    }
    return tuple(change.adjustment for change in changes if asked.get(change.field, True))


def _capture_figures(
    config: AscendServeConfig, request: GraphRequest, layout: StreamLayout, sizing: Sizing
) -> CaptureFigures:
    keys = () if request.runtime is RuntimeName.XLITE else _keys(request)
    estimated = bool(keys) and not config.emulated.npus
    cases = len(request.lora_cases)
    return CaptureFigures(
        sizes=sizing.sizes,
        multiple_of=sizing.candidates[0] if sizing.candidates else 1,
        largest_batch=sizing.candidates[-1] if sizing.candidates else 0,
        graphs=len(keys),
        streams=len(sizing.sizes) * cases * streams_per_size(layout, request.mode) if keys else 0,
        streams_per_size=cases * streams_per_size(layout, request.mode),
        stream_budget=sizing.budget,
        budget_source=sizing.budget_source,
        workload=sizing.workload,
        padding_waste=padding_waste(sizing.sizes, sizing.weights),
        eager_share=eager_share(sizing.sizes, sizing.weights) if request.runtime is RuntimeName.ACLGRAPH else 0.0,
        seconds=capture_seconds(keys, layout.num_layers) if estimated else None,
        memory_gib=capture_memory_gib(keys, layout.num_layers) if estimated else None,
    )


def _keys(request: GraphRequest) -> tuple[GraphKey, ...]:
    return capture_keys(
        request.mode,
        request.capture_sizes,
        max_num_seqs=request.max_num_seqs,
        decode_query_len=request.decode_query_len,
        lora_cases=request.lora_cases,
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


def _arguments(
    config: AscendServeConfig, settings: EngineSettings, situation: Situation, sizing: Sizing
) -> dict[str, Any]:
    """The exact arguments, with ``max_num_seqs`` written out, as the sizes were chosen for it."""
    pinned = config.model_copy(update={"vllm": {"max_num_seqs": settings.max_num_seqs, **config.vllm}})
    arguments = engine_args(
        pinned, runtime=situation.runtime, mode=situation.mode, capture_sizes=sizing.sizes, weights=sizing.weights
    )
    compilation = arguments["additional_config"]["ascend_compilation_config"]
    compilation |= {"enable_npugraph_ex": situation.npugraph_ex, "enable_static_kernel": situation.static_kernel}
    return arguments

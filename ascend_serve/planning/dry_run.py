"""The dry run: what the capture group is asked for, what each rank would propose, and what they agree on.

The agreement is the driver's own (:func:`ascend_serve.graph.agreement.agree`), over proposals that are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ascend_serve.config.schema import AscendServeConfig, GraphConfig
from ascend_serve.errors import PlanError
from ascend_serve.graph.agreement import agree
from ascend_serve.graph.modes import OnFailure
from ascend_serve.graph.plan import CapturePlan, GraphRequest, Proposal
from ascend_serve.graph.runtimes import RUNTIMES, downwards
from ascend_serve.graph.situation import Situation
from ascend_serve.graph.stream_budget import StreamBudget, fit_sizes
from ascend_serve.graph.stream_costs import (
    DEVICE_STREAMS,
    HELD_BACK_STREAMS,
    StreamLayout,
    prior_budget,
    streams_per_full,
    streams_per_piecewise,
)
from ascend_serve.planning.settings import EngineSettings
from ascend_serve.planning.sizing import SizesAsked

_KEYS_READ = {field.name for field in fields(GraphRequest)} & GraphConfig.model_fields.keys()
"""Keys of the section ``graph`` that the driver reads."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """One agreement without ranks.

    Attributes:
        request: What the group is asked for.
        proposal: What each of its ranks would propose.
        budget_source: ``prior``, ``container quota`` or ``measured``.
        plan: What they agree on.
    """

    request: GraphRequest
    proposal: Proposal
    budget_source: str
    plan: CapturePlan

    @property
    def budget(self) -> StreamBudget:
        """Streams of each rank."""
        return StreamBudget.of(self.proposal)

    @property
    def started(self) -> GraphRequest:
        """The request of the group that starts: what was agreed on, and what it goes on with where that cannot run."""
        mode = RUNTIMES[self.plan.runtime].lower_mode or self.plan.mode
        sizes = self.plan.capture_sizes or fit_sizes(
            self.request, mode, self.request.capture_sizes, (), self.request.max_sizes
        )
        return replace(
            self.request,
            runtime=self.plan.runtime,
            mode=mode,
            capture_sizes=() if self.plan.is_eager else sizes,
            max_sizes=None,
        )


def dry_run(
    config: AscendServeConfig,
    settings: EngineSettings,
    situation: Situation,
    asked: SizesAsked,
    layout: StreamLayout,
    *,
    measured_budget: int | None = None,
) -> DryRun:
    """Let ranks agree that all propose what is planned for them.

    Raises:
        PlanError: Not one size fits, and the group must not go on with less.
    """
    budget, source = _budget(config, layout, measured_budget)
    request = _request(config, settings, situation, asked)
    proposal = _proposal(request, situation, layout, budget)
    run = DryRun(request, proposal, source, agree(request, [proposal]))
    if run.plan.mode is not situation.mode and request.on_failure is OnFailure.FAIL:
        need = run.budget.cost(agree(replace(request, max_sizes=1), [replace(proposal, stream_budget=None)]).keys)
        raise PlanError(
            f"One size takes {need} streams in {request.mode}, and there are {budget} ({source}). [stream-budget]",
            "Set graph.mode=FULL_DECODE_ONLY, or graph.on_failure=degrade.",
        )
    return run


def _request(
    config: AscendServeConfig, settings: EngineSettings, situation: Situation, asked: SizesAsked
) -> GraphRequest:
    configured: dict[str, Any] = {name: getattr(config.graph, name) for name in _KEYS_READ}
    decided = {
        "runtime": situation.runtime,
        "mode": RUNTIMES[situation.runtime].lower_mode or situation.mode,
        "capture_sizes": asked.sizes,
        "max_num_seqs": settings.max_num_seqs,
        "decode_query_len": situation.decode_query_len,
        "lora_cases": settings.lora_cases,
        "weights": asked.weights,
        "max_sizes": asked.most,
    }
    return GraphRequest(**configured | decided)


def _proposal(request: GraphRequest, situation: Situation, layout: StreamLayout, budget: int) -> Proposal:
    return Proposal(
        runtimes=tuple(downwards(request.runtime)),
        mode=situation.mode,
        capture_sizes=request.capture_sizes,
        stream_budget=budget,
        streams_per_full=streams_per_full(layout),
        streams_per_piecewise=streams_per_piecewise(layout),
    )


def _budget(config: AscendServeConfig, layout: StreamLayout, measured: int | None) -> tuple[int, str]:
    """A container's quota keeps the same share back as a whole device."""
    if measured is not None:
        return measured, "measured"
    quota = config.hardware.stream_quota
    if quota is not None and not config.emulated.npus:
        return prior_budget(layout, quota * (DEVICE_STREAMS - HELD_BACK_STREAMS) // DEVICE_STREAMS), "container quota"
    return prior_budget(layout), "prior"

"""The agreement: from what each rank can do to what all ranks will do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ascend_serve.errors import AgreementError
from ascend_serve.graph.ladder import MODES_UPWARDS, RUNTIMES_UPWARDS, describe, fit_mode, make_plan
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan, GraphRequest, Proposal
from ascend_serve.graph.ranks import name_ranks
from ascend_serve.graph.runtimes import RUNTIMES
from ascend_serve.graph.stream_budget import StreamBudget, fit_sizes

_ABSENT = "(absent)"
_NOWHERE: Mapping[int, str] = MappingProxyType({})


def agree(
    request: GraphRequest,
    proposals: Sequence[Proposal],
    *,
    epoch: int = 1,
    ceiling: CapturePlan | None = None,
    budgets: Collection[StreamBudget] | None = None,
    nodes: Mapping[int, str] = _NOWHERE,
) -> CapturePlan:
    """The meet of all proposals, then the best sizes inside it. Linear in the number of ranks.

    Args:
        request: What the configuration asks for.
        proposals: One per rank, in the order of ranks.
        epoch: The epoch of the plan.
        ceiling: A plan that the result must not exceed: the one a fallback went down to, or one that worked before.
        budgets: Learned budgets, one per rank; the proposed ones when not given.
        nodes: Node of each rank as far as known, for messages.

    Raises:
        AgreementError: Ranks differ in something that must be equal.
    """
    check_fingerprints(proposals, nodes)
    if ceiling is not None:
        request = _below(request, ceiling)
    runtime, notes = _common_runtime(request, proposals, nodes)
    adjustments = [*notes, *_ordered(note for proposal in proposals for note in proposal.notes)]
    mode = _weakest_mode(request, runtime, proposals, nodes, adjustments)
    sizes = _common_sizes(request, proposals, nodes, adjustments)
    if ceiling is not None:
        adjustments += ceiling.adjustments
    limits = [StreamBudget.of(proposal) for proposal in proposals] if budgets is None else budgets
    wanted = make_plan(request, runtime, mode, fit_sizes(request, mode, sizes, (), request.max_sizes))
    plan = _fit(request, wanted, sizes, limits, adjustments) if RUNTIMES[wanted.runtime].captures else wanted
    return replace(plan, epoch=epoch, adjustments=_ordered(adjustments))


def _below(request: GraphRequest, ceiling: CapturePlan) -> GraphRequest:
    """The request as far as ``ceiling`` allows it: fresh workers are told, so what they no longer offer is no news."""
    return replace(
        request,
        runtime=min(request.runtime, ceiling.runtime, key=RUNTIMES_UPWARDS.index),
        mode=min(request.mode, ceiling.mode, key=MODES_UPWARDS.index),
        capture_sizes=tuple(size for size in request.capture_sizes if size in set(ceiling.capture_sizes)),
    )


def common_sizes(request: GraphRequest, proposals: Sequence[Proposal]) -> tuple[int, ...]:
    """Sizes that were asked for and are valid on every rank, ascending, in tokens."""
    common = set(request.capture_sizes)
    for sizes in {proposal.capture_sizes for proposal in proposals}:
        common.intersection_update(sizes)
    return tuple(sorted(common))


def check_fingerprints(proposals: Sequence[Proposal], nodes: Mapping[int, str] = _NOWHERE) -> None:
    """Check that all ranks run the same thing.

    Raises:
        AgreementError: Names what differs, and which ranks have which value.
    """
    first = proposals[0].fingerprint
    if all(proposal.fingerprint == first for proposal in proposals):
        return
    names = sorted({name for proposal in proposals for name in proposal.fingerprint})
    differences = [text for name in names if (text := _difference(name, proposals, nodes))]
    raise AgreementError(
        f"The ranks of one capture group do not run the same thing: {'; '.join(differences)}.",
        "Install the same versions and put the same model files on every node, then start again.",
    )


def _difference(name: str, proposals: Sequence[Proposal], nodes: Mapping[int, str]) -> str:
    values = _differing([proposal.fingerprint.get(name, _ABSENT) for proposal in proposals], nodes)
    return f"{name} is {values}" if values else ""


def _differing(values: Sequence[str], nodes: Mapping[int, str]) -> str:
    """Which ranks have which of ``values``, one per rank; empty when all are equal."""
    ranks_of = defaultdict(list)
    for rank, value in enumerate(values):
        ranks_of[value].append(rank)
    if len(ranks_of) == 1:
        return ""
    return ", ".join(f"{value} on {name_ranks(ranks, nodes)}" for value, ranks in ranks_of.items())


def _common_runtime(
    request: GraphRequest, proposals: Sequence[Proposal], nodes: Mapping[int, str]
) -> tuple[RuntimeName, list[Adjustment]]:
    """The best runtime up to the requested one that every rank has, and why better ones are out."""
    runtime = request.runtime
    adjustments: list[Adjustment] = []
    while (lower := RUNTIMES[runtime].lower) is not None and (reason := _obstacle(runtime, proposals, nodes)):
        adjustments.append(Adjustment("runtime", runtime.value, lower.value, reason))
        runtime = lower
    return runtime, adjustments


def _obstacle(runtime: RuntimeName, proposals: Sequence[Proposal], nodes: Mapping[int, str]) -> str:
    """Why the ranks cannot share ``runtime``; empty when they can."""
    without = [rank for rank, proposal in enumerate(proposals) if runtime not in proposal.runtimes]
    if without:
        refusal = proposals[without[0]].refusals.get(runtime, "not available")
        return f"{name_ranks(without, nodes)} cannot run {runtime.value}: {refusal}"
    versions = _differing([proposal.versions.get(runtime, "") for proposal in proposals], nodes)
    return f"the ranks have different versions of {runtime.value}: {versions}" if versions else ""


def _weakest_mode(
    request: GraphRequest,
    runtime: RuntimeName,
    proposals: Sequence[Proposal],
    nodes: Mapping[int, str],
    adjustments: list[Adjustment],
) -> GraphMode:
    """The weakest mode of the ranks that resolved theirs for ``runtime``.

    A rank that loaded for another runtime resolved its mode with that one, which says nothing about ``runtime``. One
    that captures nothing has modes of its own, which say how batches are padded and are no narrowing.
    """
    modes = [
        (min(proposal.mode, request.mode, key=MODES_UPWARDS.index), rank)
        for rank, proposal in enumerate(proposals)
        if proposal.resolved_for is runtime
    ] or [(request.mode, 0)]
    mode = min((mode for mode, _ in modes), key=MODES_UPWARDS.index)
    strongest = max((mode for mode, _ in modes), key=MODES_UPWARDS.index)
    if mode is not strongest:
        ranks = [rank for held, rank in modes if held is mode]
        reason = f"{name_ranks(ranks, nodes)} cannot run more than {mode.value}"
        adjustments.append(Adjustment("weakest-mode", strongest.value, mode.value, reason))
    elif mode is not request.mode and RUNTIMES[runtime].captures and not any(proposal.notes for proposal in proposals):
        reason = f"every rank's vLLM resolved {request.mode.value} to {mode.value} with {runtime.value}"
        adjustments.append(Adjustment("resolved-mode", request.mode.value, mode.value, reason))
    return mode


def _common_sizes(
    request: GraphRequest, proposals: Sequence[Proposal], nodes: Mapping[int, str], adjustments: list[Adjustment]
) -> tuple[int, ...]:
    sizes = common_sizes(request, proposals)
    lost = sorted(set(request.capture_sizes) - set(sizes))
    if lost:
        ranks = [rank for rank, proposal in enumerate(proposals) if not set(lost) <= set(proposal.capture_sizes)]
        reason = f"sizes {', '.join(map(str, lost))} are not valid on {name_ranks(ranks, nodes)}"
        adjustments.append(Adjustment("common-sizes", _words(request.capture_sizes), _words(sizes), reason))
    return sizes


def _fit(
    request: GraphRequest,
    wanted: CapturePlan,
    sizes: Sequence[int],
    budgets: Collection[StreamBudget],
    adjustments: list[Adjustment],
) -> CapturePlan:
    """The best plan inside the meet; says so when streams force it below."""
    plan = fit_mode(request, wanted.runtime, wanted.mode, sizes, budgets)
    if plan != wanted:
        tightest = min((budget for budget in set(budgets) if not budget.fits(wanted.keys)), key=_total)
        reason = (
            f"{len(wanted.keys)} graphs take {tightest.cost(wanted.keys)} streams on the rank that has least room, "
            f"{tightest.total} are left there"
        )
        adjustments.append(Adjustment("stream-budget", describe(wanted), describe(plan), reason))
    return plan


def _total(budget: StreamBudget) -> int:
    return budget.total or 0


def _words(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes)) or "no size"


def _ordered(adjustments: Iterable[Adjustment]) -> tuple[Adjustment, ...]:
    return tuple(dict.fromkeys(adjustments))

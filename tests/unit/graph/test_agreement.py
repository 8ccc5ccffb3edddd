"""The meet of all proposals: each narrowing with its rule and reason."""

from dataclasses import replace

import pytest

from ascend_serve.errors import AgreementError
from ascend_serve.graph.agreement import agree, common_sizes
from ascend_serve.graph.ladder import describe, eager_plan, make_plan
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan, GraphRequest, Proposal
from ascend_serve.graph.ranks import name_ranks
from ascend_serve.graph.stream_budget import StreamBudget

SIZES = (1, 2, 4, 8)
NODES = {0: "node-a", 1: "node-a", 2: "node-b"}
ACLGRAPH, XLITE, EAGER = RuntimeName.ACLGRAPH, RuntimeName.XLITE, RuntimeName.EAGER
BOTH, DECODE, PIECEWISE = GraphMode.FULL_AND_PIECEWISE, GraphMode.FULL_DECODE_ONLY, GraphMode.PIECEWISE

ASKED = GraphRequest(ACLGRAPH, BOTH, SIZES)
ABLE = Proposal((ACLGRAPH, EAGER), BOTH, SIZES, fingerprint={"model": "m1", "vllm": "0.32.0"})
XLITE_ABLE = replace(ABLE, runtimes=(XLITE, ACLGRAPH, EAGER), mode=DECODE)


def rules(plan: CapturePlan) -> list[str]:
    return [adjustment.rule for adjustment in plan.adjustments]


def test_equal_ranks_get_what_was_asked_for() -> None:
    plan = agree(ASKED, [ABLE] * 3)
    assert (plan.runtime, plan.mode, plan.capture_sizes, plan.epoch) == (ACLGRAPH, BOTH, SIZES, 1)
    assert [key.label for key in plan.keys[:5]] == [
        "PIECEWISE/8",
        "PIECEWISE/4",
        "PIECEWISE/2",
        "PIECEWISE/1",
        "FULL/8",
    ]
    assert plan.adjustments == ()


# Change of rank 2's proposal; the plan; the rule; what its reason must hold.
NARROWINGS = [
    pytest.param(
        {"mode": DECODE}, "aclgraph FULL_DECODE_ONLY at 1, 2, 4, 8", "weakest-mode", "rank 2 (node-b)", id="mode"
    ),
    pytest.param(
        {"mode": PIECEWISE}, "aclgraph PIECEWISE at 1, 2, 4, 8", "weakest-mode", "rank 2 (node-b)", id="weaker"
    ),
    pytest.param({"mode": GraphMode.NONE}, "eager", "weakest-mode", "rank 2 (node-b)", id="no mode"),
    pytest.param({"capture_sizes": (2, 4)}, "aclgraph FULL_AND_PIECEWISE at 2, 4", "common-sizes", "1, 8", id="sizes"),
    pytest.param(
        {"runtimes": (EAGER,), "refusals": {"aclgraph": "no NPUGraph in torch_npu"}},
        "eager",
        "runtime",
        "rank 2 (node-b) cannot run aclgraph: no NPUGraph in torch_npu",
        id="runtime",
    ),
    pytest.param(
        {"stream_budget": 5}, "aclgraph FULL_AND_PIECEWISE at 2, 8", "stream-budget", "8 graphs take 8", id="streams"
    ),
    pytest.param(
        {"stream_budget": 10, "streams_per_piecewise": 9},
        "aclgraph FULL_AND_PIECEWISE at 8",
        "stream-budget",
        "10 are left",
        id="a stage whose pieces cost more",
    ),
    pytest.param(
        {"stream_budget": 9, "streams_per_piecewise": 9, "streams_per_full": 2},
        "aclgraph FULL_DECODE_ONLY at 1, 2, 4, 8",
        "stream-budget",
        "9 are left",
        id="not one size of both kinds",
    ),
    pytest.param({"stream_budget": 0}, "eager", "stream-budget", "0 are left", id="no streams at all"),
]


@pytest.mark.parametrize(("change", "words", "rule", "reason"), NARROWINGS)
def test_one_rank_narrows_all(change: dict[str, object], words: str, rule: str, reason: str) -> None:
    plan = agree(ASKED, [ABLE, ABLE, replace(ABLE, **change)], nodes=NODES)  # type: ignore[arg-type]
    assert describe(plan) == words
    assert rules(plan) == [rule]
    assert reason in plan.adjustments[0].reason


def test_the_tightest_budget_counts() -> None:
    proposals = [replace(ABLE, stream_budget=budget) for budget in (100, 4, 6)]
    assert len(agree(ASKED, proposals).capture_sizes) == 2


def test_what_vllm_narrowed_on_its_own_is_told_once() -> None:
    note = Adjustment("attention-backend", "FULL", "FULL_DECODE_ONLY", "mla_v1 supports uniform batches only")
    proposal = replace(ABLE, mode=DECODE, notes=(note,))
    assert agree(ASKED, [proposal] * 3).adjustments == (note,)


def test_a_mode_that_every_rank_resolved_alike_is_told() -> None:
    plan = agree(ASKED, [replace(ABLE, mode=DECODE)] * 2)
    assert rules(plan) == ["resolved-mode"]


def test_xlite_everywhere_is_taken() -> None:
    asked = replace(ASKED, runtime=XLITE)
    assert describe(agree(asked, [XLITE_ABLE] * 2)) == "xlite FULL_DECODE_ONLY at 1, 2, 4, 8"
    full_mode = agree(asked, [replace(XLITE_ABLE, mode=GraphMode.NONE)] * 2)
    assert (full_mode.runtime, full_mode.keys, full_mode.is_eager) == (XLITE, (), False)


def test_one_rank_without_xlite_moves_all_to_aclgraph_in_its_mode() -> None:
    asked = replace(ASKED, runtime=XLITE)
    without = replace(ABLE, refusals={"xlite": "xlite is not installed"})
    plan = agree(asked, [replace(XLITE_ABLE, mode=GraphMode.NONE), without, XLITE_ABLE], nodes=NODES)
    assert (plan.runtime, plan.mode) == (ACLGRAPH, BOTH)
    assert plan.adjustments[0].reason == "rank 1 (node-a) cannot run xlite: xlite is not installed"


def test_ranks_with_different_versions_of_xlite_go_to_aclgraph() -> None:
    asked = replace(ASKED, runtime=XLITE)
    proposals = [replace(XLITE_ABLE, versions={"xlite": version}) for version in ("0.2.0", "0.1.0", "0.2.0")]
    plan = agree(asked, proposals, nodes=NODES)
    assert plan.runtime is ACLGRAPH
    reason = (
        "the ranks have different versions of xlite: 0.2.0 on ranks 0, 2 (node-a, node-b), 0.1.0 on rank 1 (node-a)"
    )
    assert plan.adjustments[0] == Adjustment("runtime", "xlite", "aclgraph", reason)


def test_a_rank_that_loaded_for_aclgraph_though_it_has_xlite_tells_the_mode() -> None:
    asked = replace(ASKED, runtime=XLITE)
    without = replace(ABLE, refusals={"xlite": "xlite is not installed"})
    with_xlite = replace(XLITE_ABLE, loaded=ACLGRAPH)
    assert agree(asked, [with_xlite, without]).mode is DECODE


def test_a_runtime_better_than_asked_for_is_not_taken() -> None:
    assert agree(ASKED, [XLITE_ABLE] * 2).runtime is ACLGRAPH
    assert agree(replace(ASKED, runtime=EAGER), [ABLE] * 2).is_eager


DIFFERENCES = [
    pytest.param(
        {"model": "m2", "vllm": "0.32.0"}, "model is m1 on ranks 0-1 (node-a), m2 on rank 2 (node-b)", id="value"
    ),
    pytest.param({"model": "m1"}, "vllm is 0.32.0 on ranks 0-1 (node-a), (absent) on rank 2 (node-b)", id="absent"),
]


@pytest.mark.parametrize(("fingerprint", "difference"), DIFFERENCES)
def test_different_fingerprints_are_an_error(fingerprint: dict[str, str], difference: str) -> None:
    with pytest.raises(AgreementError) as error:
        agree(ASKED, [ABLE, ABLE, replace(ABLE, fingerprint=fingerprint)], nodes=NODES)
    assert difference in error.value.problem
    assert error.value.remedy


CEILINGS = [
    pytest.param(make_plan(ASKED, ACLGRAPH, BOTH, (2, 8)), "aclgraph FULL_AND_PIECEWISE at 2, 8", id="fewer sizes"),
    pytest.param(
        make_plan(ASKED, ACLGRAPH, DECODE, SIZES), "aclgraph FULL_DECODE_ONLY at 1, 2, 4, 8", id="cheaper mode"
    ),
    pytest.param(eager_plan(make_plan(ASKED, ACLGRAPH, BOTH, SIZES), "it broke"), "eager", id="eager"),
]


@pytest.mark.parametrize(("ceiling", "words"), CEILINGS)
def test_a_ceiling_holds_and_keeps_its_reasons(ceiling: CapturePlan, words: str) -> None:
    plan = agree(ASKED, [ABLE] * 2, epoch=7, ceiling=ceiling)
    assert (describe(plan), plan.epoch, plan.adjustments) == (words, 7, ceiling.adjustments)


def test_the_same_narrowing_is_not_told_again_after_a_replacement() -> None:
    proposals = [ABLE, replace(ABLE, mode=DECODE)]
    first = agree(ASKED, proposals)
    assert agree(ASKED, proposals, epoch=2, ceiling=first).adjustments == first.adjustments


def test_learned_budgets_replace_the_proposed_ones() -> None:
    proposals = [replace(ABLE, stream_budget=100)] * 2
    plan = agree(ASKED, proposals, budgets=[StreamBudget(100), StreamBudget(4)])
    assert len(plan.capture_sizes) == 2


def test_common_sizes_are_the_intersection_with_what_was_asked_for() -> None:
    proposals = [replace(ABLE, capture_sizes=sizes) for sizes in [(1, 2, 4, 16), (2, 4, 8)]]
    assert common_sizes(ASKED, proposals) == (2, 4)


NAMES = [
    pytest.param([3], "rank 3", id="one"),
    pytest.param([0, 1], "ranks 0-1 (node-a)", id="one node"),
    pytest.param([0, 2, 3, 4], "ranks 0, 2-4 (node-a, node-b)", id="a gap"),
]


@pytest.mark.parametrize(("ranks", "words"), NAMES)
def test_ranks_in_words(ranks: list[int], words: str) -> None:
    assert name_ranks(ranks, NODES) == words


def test_many_nodes_are_not_all_listed() -> None:
    words = name_ranks(range(16), {rank: f"node-{rank}" for rank in range(16)})
    assert words == "ranks 0-15 (node-0, node-1, node-2, 13 more nodes)"

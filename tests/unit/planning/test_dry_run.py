"""What a plan says is what the driver decides: a real session, asked by ranks that all propose the same."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.messages import Join, Propose
from ascend_serve.capture.session import Session
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config import AscendServeConfig, load
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest, Proposal
from ascend_serve.graph.rules import resolve
from ascend_serve.planning import plan_deployment
from ascend_serve.planning.dry_run import DryRun, dry_run
from ascend_serve.planning.settings import read_settings
from ascend_serve.planning.situation import architecture_of, situation_of, stream_layout
from ascend_serve.planning.sizing import sizes_asked

CONFIG = Path(__file__).parents[3] / "configs" / "qwen3-32b.yaml"
LAYOUTS = {
    "one NPU": (1, 1, 1),
    "TP 8": (8, 1, 1),
    "TP 2 x PP 2": (2, 2, 1),
    "DP 2 x TP 4": (4, 1, 2),
}
LOADS = {
    "our sizes": (),
    "the user's sizes": ("graph.capture_sizes=[1,2,8,64,600]",),
    "drafts": ("vllm.speculative_config={method: ngram, num_speculative_tokens: 1}",),
    "LoRA": ("vllm.enable_lora=true",),
    "950": ("hardware.soc='950'",),
    "Xlite full": ("graph.xlite.full_mode=true",),
}
BUDGETS = (0, 5, 131, 660)
REQUEST: TypeAdapter[GraphRequest] = TypeAdapter(GraphRequest)


@cache
def configured(layout: str, load_: str) -> AscendServeConfig:
    """What the file and the overrides ask for; read once for all modes, runtimes and budgets."""
    tensor, pipeline, data = LAYOUTS[layout]
    sizes = [
        f"parallel.tensor_parallel_size={tensor}",
        f"parallel.pipeline_parallel_size={pipeline}",
        f"parallel.data_parallel_size={data}",
        "vllm.max_num_seqs=16",
    ]
    return load(CONFIG, [*sizes, *LOADS[load_]])


def with_graphs(config: AscendServeConfig, mode: GraphMode, runtime: RuntimeName) -> AscendServeConfig:
    """``config`` with other graphs, as if a user had written them."""
    told = config.model_dump(exclude_unset=True)
    graph = {**told.get("graph", {}), "mode": mode, "runtime": runtime}
    return AscendServeConfig.model_validate({**told, "graph": graph})


def rehearsed(config: AscendServeConfig, budget: int) -> DryRun:
    """What planning lets ranks agree on."""
    architecture, settings = architecture_of(config), read_settings(config.vllm)
    situation, _ = resolve(situation_of(config, architecture, settings, {}))
    layout, asked = stream_layout(config, architecture, settings, {}), sizes_asked(config, settings, situation)
    return dry_run(config, settings, situation, asked, layout, measured_budget=budget)


def driver_decides(request: GraphRequest, proposal: Proposal, ranks: int) -> CapturePlan:
    """What a session of ``ranks`` agrees on when all propose the same."""
    session = Session(ranks, request, Deadlines(60, 60, 60, 60))
    for rank in range(ranks):
        session.handle(Join(rank, 0, "node"), 0.0)
    for rank in range(ranks):
        session.handle(Propose(rank, 0, proposal), 0.0)
    assert session.plan is not None
    return session.plan


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("load_", LOADS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_driver_decides_what_was_planned(layout: str, load_: str, budget: int) -> None:
    for mode, runtime in product(GraphMode, RuntimeName):
        config = with_graphs(configured(layout, load_), mode, runtime)
        ranks = config.parallel.world_size
        run = rehearsed(config, budget)
        assert driver_decides(run.request, run.proposal, ranks) == run.plan

        plan = plan_deployment(config, environment={}, measured_budget=budget, nodes=[NodeOffer("n", "n", ranks)])
        planned = (plan.runtime, plan.mode, plan.capture.sizes, plan.capture.graphs)
        assert planned == (run.plan.runtime, run.plan.mode, run.plan.capture_sizes, len(run.plan.keys))

        # What an engine is started with leads there too, on ranks that do not know how many streams they have.
        told = REQUEST.validate_python(plan.vllm_arguments["additional_config"]["ascend_serve"]["request"])
        able = replace(run.proposal, capture_sizes=told.capture_sizes, mode=plan.mode, stream_budget=None)
        assert driver_decides(told, able, ranks) == replace(run.plan, adjustments=())

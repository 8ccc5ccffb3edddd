"""The plan of a deployment as tables for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ascend_serve.cluster.placement import counted
from ascend_serve.config.translate import SECTION
from ascend_serve.graph.plan import Switch
from ascend_serve.planning.comparison import ComparedList
from ascend_serve.planning.deployment import DeploymentPlan
from ascend_serve.planning.estimate import Range
from ascend_serve.planning.memory import MemoryFigures
from ascend_serve.planning.planned_placement import PlannedRank
from ascend_serve.releases import Release, nearest

_BAR = 16
"""Width of the longest bar, in characters."""


def plan_tables(plan: DeploymentPlan) -> RenderableType:
    """All of the plan, the effective mode first."""
    return Group(
        _pairs("Deployment", summary_rows(plan)),
        *_adjustments(plan),
        _pairs("Capture, per rank", capture_rows(plan)),
        _pairs("Memory, per NPU", memory_rows(plan.memory)),
        _ranks(plan),
        *_environment(plan),
        *_list("Steps down if capture fails", (f"{step.text}" for step in plan.ladder)),
        *_list("Without effect", plan.no_effect),
        *_list("Notes", plan.notes),
    )


def comparison_tables(lists: Sequence[ComparedList]) -> RenderableType:
    """The lists side by side, with their waste as bars."""
    table = _table("Capture sizes compared")
    table.add_column("list", no_wrap=True)
    for heading in ("sizes", "graphs", "streams", "eager steps", "padding waste"):
        table.add_column(heading, justify="right")
    table.add_column(no_wrap=True)
    longest = max((entry.padding_waste for entry in lists), default=0.0) or 1.0
    for entry in lists:
        bar = "█" * round(_BAR * entry.padding_waste / longest)
        figures = f"{entry.eager_share:.2%}", f"{entry.padding_waste:.2%}"
        style = "green" if entry.name.startswith("ours") else "cyan"
        table.add_row(
            entry.name, str(len(entry.sizes)), str(entry.graphs), str(entry.streams), *figures, Text(bar, style)
        )
    return table


def arguments_text(plan: DeploymentPlan) -> str:
    """The arguments as a JSON object, a line for each; without the weights, which ``--json`` has."""
    arguments = json.loads(json.dumps(plan.vllm_arguments))
    arguments["additional_config"][SECTION]["request"].pop("weights", None)
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in arguments.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def summary_rows(plan: DeploymentPlan) -> Iterator[tuple[str, str]]:
    """What will run, the mode and the options that hold."""
    model = plan.model
    size = f", {model.parameters / 1e9:.3g} B parameters" if model.parameters else ""
    yield "model", f"{model.path} ({model.architecture}, {model.num_hidden_layers} layers{size}; from {model.source})"
    if plan.release:
        yield "release", _release(nearest(plan.release))
    yield "attention", f"{model.attention_backend} ({model.graph_support})"
    yield "mode", _narrowed(plan.requested_mode, plan.mode)
    yield "runtime", _narrowed(plan.requested_runtime, plan.runtime)
    yield "npugraph_ex", _switch(plan.npugraph_ex)
    yield "static kernel", _switch(plan.static_kernel)
    yield "batch", f"at most {plan.max_num_seqs} requests, {plan.decode_query_len} tokens each in a decode step"


def _release(row: Release) -> str:
    return f"vllm-ascend {row.vllm_ascend}: vLLM {row.vllm}, torch_npu {row.torch_npu}, CANN {row.cann}, HDK {row.hdk}"


def _narrowed(requested: str, effective: str) -> str:
    return requested if requested == effective else f"{effective} (requested: {requested})"


def _switch(switch: Switch) -> str:
    return f"{'on' if switch.on else 'off'}: {switch.reason}"


def _adjustments(plan: DeploymentPlan) -> Iterator[Text]:
    if plan.adjustments:
        yield Text("\nAdjustments", style="bold")
    for adjustment in plan.adjustments:
        yield Text(f"  {adjustment.rule}: {adjustment.before} -> {adjustment.after}", style="yellow")
        yield Text(f"    {adjustment.reason}")
        yield Text(f"    source: {plan.rule_sources[adjustment.rule]}", style="dim")


def capture_rows(plan: DeploymentPlan) -> Iterator[tuple[str, str]]:
    """What each rank captures, and what that takes."""
    capture = plan.capture
    yield "sizes", ", ".join(map(str, capture.sizes)) or "none"
    if not capture.sizes:
        return
    yield "graphs", f"{capture.graphs} ({len(capture.sizes)} sizes)"
    yield "streams", f"{capture.streams} of {capture.stream_budget} ({capture.budget_source})"
    yield "workload", capture.workload
    yield "padding waste", f"{capture.padding_waste:.2%} expected"
    if capture.eager_share:
        yield "eager steps", f"{capture.eager_share:.2%} expected"
    if capture.graphs:
        yield "capture time", _range(capture.seconds, "s")
        yield "capture memory", _range(capture.memory_gib, "GiB")


def memory_rows(memory: MemoryFigures) -> Iterator[tuple[str, str]]:
    """What each NPU has room for."""
    yield "device", _gib(memory.device_gib, "that of its host, which emulated NPUs share")
    yield "weights", _gib(memory.weights_gib, "not known: neither their files nor a card says")
    cache = None if memory.kv_cache_gib is None else max(0.0, memory.kv_cache_gib)
    yield "KV cache", "not known" if cache is None else f"at most {_gib(cache, '')}"
    if memory.kv_bytes_per_token is not None:
        yield "a token", f"{memory.kv_bytes_per_token / 1024:.4g} KiB of it"
    if memory.kv_tokens is not None:
        yield "tokens", f"at most {memory.kv_tokens:,} of each engine"
    if memory.requests_at_once is not None:
        longest = f"{memory.requests_at_once:g} of {memory.longest_request:,} tokens, more that are shorter"
        yield (
            "requests at once",
            longest if memory.fits else f"none of {memory.longest_request:,} tokens: it does not fit",
        )
    yield "replicas", f"{memory.replicas} fit on these machines"


def _gib(size: float | None, otherwise: str) -> str:
    return otherwise if size is None else f"{size:,.2f} GiB"


def _range(estimate: Range | None, unit: str) -> str:
    if estimate is None:
        return "not estimated on the emulated NPU"
    if not estimate.low:
        return f"at most {estimate.high:.2g} {unit}, estimated"
    return f"{estimate.low:.2g} to {estimate.high:.2g} {unit}, estimated"


def _ranks(plan: DeploymentPlan) -> Table:
    table = _table(placement_title(plan), *PLACEMENT_HEADINGS)
    for row in placement_rows(plan):
        table.add_row(*map(escape, row))
    return table


PLACEMENT_HEADINGS = ("nodes", "ranks of each", "bundles of each")


def placement_title(plan: DeploymentPlan) -> str:
    """How many NPUs one replica takes, and where."""
    placement = plan.placement
    where = f"{counted(placement.npus, 'NPU')} on {counted(len(placement.nodes), 'node')}"
    return f"Placement: {where}, {placement.strategy}"


def placement_rows(plan: DeploymentPlan) -> Iterator[tuple[str, str, str]]:
    """The nodes, those that are alike together."""
    for nodes in _alike(plan):
        ranks = [rank for rank in plan.placement.ranks if rank.node == nodes[0]]
        bundle = plan.placement.bundles[ranks[0].rank]
        yield _name(nodes), _span(ranks, len(nodes)), f"{len(ranks)} x {json.dumps(bundle)}"


def _alike(plan: DeploymentPlan) -> list[list[str]]:
    """Nodes with as many ranks of the same coordinates but for one, so that a thousand are a line or two."""
    kinds: dict[tuple[int, str], list[str]] = {}
    for node in plan.placement.nodes:
        ranks = [rank for rank in plan.placement.ranks if rank.node == node]
        bundle = json.dumps(plan.placement.bundles[ranks[0].rank])
        kinds.setdefault((len(ranks), bundle), []).append(node)
    return list(kinds.values())


def _name(nodes: list[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} to {nodes[-1]} ({len(nodes)})"


def _span(ranks: Sequence[PlannedRank], nodes: int) -> str:
    first, last = ranks[0], ranks[-1]
    whole = f"{first.rank}" if len(ranks) == 1 else f"{first.rank} to {last.rank}"
    steps = ", ".join(
        f"{name} {_from_to(getattr(first, field), getattr(last, field))}"
        for name, field in (
            ("dp", "data_parallel_rank"),
            ("pp", "pipeline_parallel_rank"),
            ("tp", "tensor_parallel_rank"),
        )
    )
    return f"{whole} ({steps})" if nodes == 1 else f"{len(ranks)}; the first has {whole} ({steps})"


def _from_to(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def environment_title(plan: DeploymentPlan) -> str:
    """Whose environment it is; empty where nothing has to be set."""
    node, variables = next(iter(plan.placement.environment.items()), ("", {}))
    others = " and likewise of the others" if len(plan.placement.nodes) > 1 else ""
    return f"Environment of {node}{others}, before ray start" if variables else ""


def environment_rows(plan: DeploymentPlan) -> Iterator[tuple[str, str]]:
    """That of one node: others have their own addresses and interfaces in it."""
    for variables in list(plan.placement.environment.values())[:1]:
        yield from variables.items()


def _environment(plan: DeploymentPlan) -> Iterator[Table]:
    if title := environment_title(plan):
        yield _pairs(title, environment_rows(plan))


def _list(title: str, lines: Iterable[str]) -> Iterator[Text]:
    for number, line in enumerate(lines, 1):
        if number == 1:
            yield Text(f"\n{title}", style="bold")
        yield Text(f"  {number}. {line}")

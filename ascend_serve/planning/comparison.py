"""Our capture sizes beside the lists that others start with, for the same workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from ascend_serve.graph.default_lists import even_subsample, sglang_sizes, tensorrt_llm_sizes, vllm_sizes
from ascend_serve.graph.sizes import eager_share, padding_waste, select_sizes
from ascend_serve.planning.deployment import DeploymentPlan


class ComparedList(BaseModel):
    """One list of sizes.

    Attributes:
        name: Whose list.
        sizes: Sizes, ascending, in tokens.
        graphs: Graphs per rank.
        streams: Streams that they take.
        padding_waste: Padded minus real tokens, over real tokens.
        eager_share: Share of decode steps above the largest size.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sizes: tuple[int, ...]
    graphs: int
    streams: int
    padding_waste: float
    eager_share: float


def compare(plan: DeploymentPlan) -> tuple[ComparedList, ...]:
    """Compare the plan's sizes with an even subsample of the lists of others, at the same number of sizes.

    Lists of others are rounded up to the multiples that sizes have to be, as vLLM does. Then come vLLM's full default,
    and the fewest sizes of ours that waste no more than it.
    """
    if not plan.capture_sizes:
        return ()
    unit, top, count = plan.capture.multiple_of, plan.capture.largest_batch, len(plan.capture_sizes)
    vllm, sglang, tensorrt = (
        _multiples(sizes(top), unit, top) for sizes in (vllm_sizes, sglang_sizes, tensorrt_llm_sizes)
    )
    lists = {
        "ours": plan.capture_sizes,
        "vLLM subsample": even_subsample(vllm, count),
        "SGLang subsample": even_subsample(sglang, count),
        "TensorRT-LLM subsample": even_subsample(tensorrt, count),
        "vLLM default": vllm,
        "ours, no worse than it": fewest_sizes(
            range(unit, top + 1, unit), plan.weights, padding_waste(vllm, plan.weights), len(vllm)
        ),
    }
    return tuple(_compared(name, sizes, plan) for name, sizes in lists.items())


def fewest_sizes(candidates: Sequence[int], weights: Mapping[int, float], waste: float, most: int) -> tuple[int, ...]:
    """The fewest sizes that waste no more than ``waste``; the best ``most`` where that is not reached."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if padding_waste(select_sizes(candidates, middle, weights), weights) <= waste:
            high = middle
        else:
            low = middle + 1
    return select_sizes(candidates, low, weights)


def _multiples(sizes: Sequence[int], unit: int, top: int) -> tuple[int, ...]:
    return tuple(sorted({rounded for size in sizes if (rounded := -(-size // unit) * unit) <= top}))


def _compared(name: str, sizes: tuple[int, ...], plan: DeploymentPlan) -> ComparedList:
    graphs_per_size = plan.capture.graphs // len(plan.capture_sizes)
    return ComparedList(
        name=name,
        sizes=sizes,
        graphs=len(sizes) * graphs_per_size,
        streams=len(sizes) * plan.capture.streams_per_size,
        padding_waste=padding_waste(sizes, plan.weights),
        eager_share=eager_share(sizes, plan.weights),
    )

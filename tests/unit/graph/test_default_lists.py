import pytest

from ascend_serve.graph.default_lists import even_subsample, sglang_sizes, tensorrt_llm_sizes, vllm_sizes
from ascend_serve.graph.sizes import candidate_sizes, padding_waste, select_sizes


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        pytest.param(vllm_sizes(512), 51, id="vLLM"),
        pytest.param(sglang_sizes(512), 52, id="SGLang"),
        pytest.param(tensorrt_llm_sizes(512), 25, id="TensorRT-LLM"),
    ],
)
def test_lists_up_to_512(sizes: tuple[int, ...], count: int) -> None:
    assert len(sizes) == count
    assert list(sizes) == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, 512)


def test_vllm_leaves_out_a_maximum_off_its_stride() -> None:
    assert vllm_sizes(20) == (1, 2, 4, 8, 16)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(0, (), id="none"),
        pytest.param(1, (16,), id="one is the last"),
        pytest.param(2, (1, 16), id="first and last"),
        pytest.param(3, (1, 4, 16), id="even steps"),
        pytest.param(9, (1, 2, 4, 8, 16), id="more than there are"),
    ],
)
def test_even_subsample(count: int, expected: tuple[int, ...]) -> None:
    assert even_subsample((1, 2, 4, 8, 16), count) == expected


@pytest.mark.parametrize("count", [4, 6, 8, 12, 19, 35])
@pytest.mark.parametrize("top", [64, 256, 512])
def test_without_a_load_ours_waste_less_than_a_subsample_of_vllms(top: int, count: int) -> None:
    """Batches are even up to some size, and that size is as likely to be any."""
    weights = {n: sum(1 / extent for extent in range(n, top + 1)) for n in range(1, top + 1)}
    ours, theirs = select_sizes(candidate_sizes(top), count), even_subsample(vllm_sizes(top), count)
    assert padding_waste(ours, weights) < padding_waste(theirs, weights)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.errors import ConfigError
from ascend_serve.graph.trace import TracedRequest, read_trace
from ascend_serve.graph.workload import (
    Workload,
    from_concurrency,
    from_histogram,
    from_trace,
    simulate,
)


def test_histogram() -> None:
    assert from_histogram('{"8": 40, "1": 120, "4": 0}', "load").weights == {1: 120, 8: 40}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"1": 0}', '{"0": 1}', '{"one": 1}', '{"1": "x"}', '{"1": -1}', '{"1": NaN}', '{"1": Infinity}'],
)
def test_not_a_histogram(text: str) -> None:
    with pytest.raises(ConfigError, match="load"):
        from_histogram(text, "load")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("arrival,input_tokens,output_tokens\n2,30,4\n1,10,2\n", id="our names"),
        pytest.param("TIMESTAMP,ContextTokens,GeneratedTokens\n2,30,4\n1,10,2\n", id="Azure"),
        pytest.param("Timestamp,Model,Request tokens,Response tokens\n2,x,30,4\n1,y,10,2\n", id="BurstGPT"),
    ],
)
def test_trace(text: str) -> None:
    assert read_trace(text, "load") == [TracedRequest(1, 10, 2), TracedRequest(2, 30, 4)]


def test_trace_with_dates() -> None:
    text = "arrival,input_tokens,output_tokens\n2023-11-16 18:15:46.6805900,1,1\n2023-11-16 18:15:47.6805900,1,1\n"
    first, second = read_trace(text, "load")
    assert second.arrival - first.arrival == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        pytest.param("", "arrival", id="empty"),
        pytest.param("arrival,input_tokens\n1,2\n", "output_tokens", id="a column is missing"),
        pytest.param("arrival,input_tokens,output_tokens\n", "no request", id="no rows"),
        pytest.param("arrival,input_tokens,output_tokens\n1,2,3\n1,x,3\n", "line 3", id="not a number"),
        pytest.param("arrival,input_tokens,output_tokens\n1,2\n", "line 2", id="a short row"),
    ],
)
def test_not_a_trace(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        read_trace(text, "load")


@pytest.mark.parametrize(
    ("requests", "steps"),
    [
        pytest.param([TracedRequest(0, 0, 3)], {1: 3}, id="one request"),
        pytest.param([TracedRequest(0, 0, 3), TracedRequest(0, 0, 5)], {2: 3, 1: 2}, id="two at once"),
        pytest.param([TracedRequest(0, 0, 3), TracedRequest(100, 0, 2)], {1: 5}, id="one after the other"),
        pytest.param([TracedRequest(0, 0, 4), TracedRequest(1.5, 0, 4)], {1: 4, 2: 2}, id="one joins"),
        pytest.param([TracedRequest(0, 0, 2)] * 5, {2: 4, 1: 2}, id="more than fit wait"),
        pytest.param([TracedRequest(0, 0, 4), TracedRequest(1, 100_000, 1)], {1: 3, 2: 1}, id="prefill stops decode"),
    ],
)
def test_simulation(requests: list[TracedRequest], steps: dict[int, int]) -> None:
    assert simulate(requests, max_num_seqs=2, step_seconds=1.0) == steps


lengths = st.builds(TracedRequest, st.floats(0, 1e4), st.integers(0, 10_000), st.integers(1, 500))


@settings(deadline=None)
@given(requests=st.lists(lengths, max_size=30), most=st.integers(1, 8))
def test_simulation_makes_every_token_once(requests: list[TracedRequest], most: int) -> None:
    steps = simulate(sorted(requests, key=lambda request: request.arrival), most, 0.03)
    assert sum(n * count for n, count in steps.items()) == sum(request.output_tokens for request in requests)
    assert all(1 <= n <= most and count > 0 for n, count in steps.items())


def test_a_trace_counts_tokens() -> None:
    text = "arrival,input_tokens,output_tokens\n0,0,3\n0,0,5\n"
    assert from_trace(text, "load", max_num_seqs=8, decode_query_len=3).weights == {3: 2, 6: 3}


@pytest.mark.parametrize(
    ("clients", "most", "likeliest"),
    [
        pytest.param(1, 256, 1, id="one client"),
        pytest.param(8, 256, 8, id="a few"),
        pytest.param(40, 256, 38, id="many"),
        pytest.param(1000, 256, 256, id="more than fit"),
        pytest.param(100_000, 256, 256, id="far more than fit"),
    ],
)
def test_concurrency(clients: int, most: int, likeliest: int) -> None:
    weights = from_concurrency(clients, most).weights
    assert max(weights, key=weights.__getitem__) == likeliest
    assert max(weights) == min(clients, most)


def test_concurrency_counts_tokens() -> None:
    assert set(from_concurrency(4, 256, decode_query_len=3).weights) <= {3, 6, 9, 12}


def test_smoothing_leaves_no_size_without_weight() -> None:
    shares = Workload({4: 3.0}, "").smoothed(range(1, 9))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[4] > 0.98
    assert min(shares) == 1
    assert all(share > 0 for share in shares.values())

"""Streams: what a device has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.emulated.stream_pool import StreamPool, quota_of_rank
from ascend_serve.errors import ConfigError


def test_pool_gives_all_or_nothing() -> None:
    pool = StreamPool(quota=5)
    pool.acquire(3)
    with pytest.raises(RuntimeError, match="207008"):
        pool.acquire(3)
    assert (pool.used, pool.left) == (3, 2)
    pool.release(3)
    assert pool.left == 5


def test_pool_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="-1 streams"):
        StreamPool(quota=-1)
    with pytest.raises(ValueError, match="given back"):
        StreamPool().release(1)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(0, 60))
def test_pool_never_gives_more_than_its_quota(requests: list[int], quota: int) -> None:
    pool, held = StreamPool(quota), 0
    for request in requests:
        if held + request <= quota:
            pool.acquire(request)
            held += request
        else:
            with pytest.raises(RuntimeError):
                pool.acquire(request)
        assert pool.used == held


def test_quota_is_one_number_or_one_per_rank() -> None:
    assert quota_of_rank(7, 3) == 7
    assert quota_of_rank([7, 8], 1) == 8
    with pytest.raises(ConfigError, match=r"lists 2 numbers, but there is a rank 2"):
        quota_of_rank([7, 8], 2)

"""The warning with which static kernel compilation starts."""

from __future__ import annotations

import warnings

import pytest

from ascend_serve.engine.compilation import SEVERAL_RANKS, SINGLE_RANK, watch_static_kernels


@pytest.mark.parametrize("started", [SINGLE_RANK, f"Rank 3{SEVERAL_RANKS}"], ids=["one rank", "several ranks"])
def test_the_start_message_is_recognised_and_still_shown(started: str, recwarn: pytest.WarningsRecorder) -> None:
    told: list[str] = []
    with warnings.catch_warnings(), watch_static_kernels(told.append):
        warnings.simplefilter("always")
        warnings.warn(f"{started}/tmp/kernels/ts1", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert told == ["/tmp/kernels/ts1"]
    assert [str(warning.message) for warning in recwarn] == [f"{started}/tmp/kernels/ts1", "something else"]


def test_afterwards_warnings_go_where_they_went() -> None:
    show = warnings.showwarning
    with pytest.raises(RuntimeError, match="capture failed"), watch_static_kernels(print):
        raise RuntimeError("capture failed")
    assert warnings.showwarning is show

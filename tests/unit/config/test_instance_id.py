"""Instance ids: group, engine of a data-parallel group, incarnation."""

from __future__ import annotations

import pytest

from ascend_serve.config.instance_id import InstanceId

CASES = [
    pytest.param("demo-1a2b", InstanceId("demo-1a2b"), id="first workers"),
    pytest.param("demo-1a2b_dp3", InstanceId("demo-1a2b", "_dp3"), id="engine of a data-parallel group"),
    pytest.param("demo-1a2b-r2", InstanceId("demo-1a2b", incarnation=2), id="replaced twice"),
    pytest.param("demo-1a2b_dp0-r1", InstanceId("demo-1a2b", "_dp0", 1), id="replaced engine of a group"),
]


@pytest.mark.parametrize(("text", "parts"), CASES)
def test_parts_and_text_belong_together(text: str, parts: InstanceId) -> None:
    assert InstanceId.parse(text) == parts
    assert str(parts) == text


def test_a_restarted_engine_of_a_data_parallel_group_goes_on_counting() -> None:
    """vLLM appends the engine to the id that it was given."""
    assert InstanceId.parse("demo-1a2b-1-r2_dp1") == InstanceId("demo-1a2b-1", "_dp1", 2)


def test_an_empty_id_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        InstanceId.parse("")

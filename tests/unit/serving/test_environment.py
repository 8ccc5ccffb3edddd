from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.config.schema import AscendServeConfig, EmulatedConfig, HardwareConfig, ModelConfig
from ascend_serve.graph.streams import ExpansionMode
from ascend_serve.serving.environment import EMULATED_NPU, engine_environment, threads_bind


@pytest.mark.parametrize(
    ("cores", "ranks", "bind"),
    [
        pytest.param([0, 1], 2, "0|1", id="a core each"),
        pytest.param([0, 1], 1, "0,1", id="all cores for one rank"),
        pytest.param([2, 3, 6, 7], 2, "2,3|6,7", id="cores that do not start at 0"),
        pytest.param([0, 1, 2], 2, "0|1", id="an odd core stays free"),
        pytest.param([0, 1], 4, "0|1|0|1", id="more ranks than cores"),
    ],
)
def test_deals_cores_to_ranks(cores: list[int], ranks: int, bind: str) -> None:
    assert threads_bind(cores, ranks) == bind


@given(st.sets(st.integers(0, 255), min_size=1), st.integers(1, 16))
def test_ranks_get_equal_shares_and_share_cores_only_when_there_are_too_few(cores: set[int], ranks: int) -> None:
    shares = [share.split(",") for share in threads_bind(sorted(cores), ranks).split("|")]
    dealt = [int(core) for share in shares for core in share]
    assert len(shares) == ranks
    assert len({len(share) for share in shares}) == 1
    assert set(dealt) <= cores
    assert len(set(dealt)) == len(dealt) or ranks > len(cores)


@pytest.mark.parametrize(("npus", "emulated"), [(0, None), (2, "1")], ids=["real", "emulated"])
def test_only_emulated_npus_choose_our_platform(npus: int, emulated: str | None) -> None:
    config = AscendServeConfig(model=ModelConfig(path="m"), emulated=EmulatedConfig(npus=npus))
    assert engine_environment(config).get(EMULATED_NPU) == emulated


def test_the_engine_core_gets_into_a_cluster_with_token_authentication(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert engine_environment(AscendServeConfig(model=ModelConfig(path="m")))["RAY_AUTH_MODE"] == "token"


def test_the_expansion_mode_of_the_configuration_is_set_on_every_rank() -> None:
    hardware = HardwareConfig(hccl_op_expansion_mode=ExpansionMode.AIV)
    config = AscendServeConfig(model=ModelConfig(path="m"), hardware=hardware)
    assert engine_environment(config)["HCCL_OP_EXPANSION_MODE"] == "AIV"
    assert "HCCL_OP_EXPANSION_MODE" not in engine_environment(AscendServeConfig(model=ModelConfig(path="m")))

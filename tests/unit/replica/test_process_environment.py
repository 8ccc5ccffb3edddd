from __future__ import annotations

import pytest

from ascend_serve.config.schema import AscendServeConfig, EmulatedConfig, HardwareConfig, ModelConfig
from ascend_serve.graph.stream_costs import ExpansionMode
from ascend_serve.replica.process_environment import EMULATED_NPU, engine_environment, replica_runtime_env


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "0", id="it answers on Serve's event loop"),
        pytest.param("MALLOC_ARENA_MAX", "2", id="its memory does not grow by the number of cores"),
        pytest.param("SAGEMAKER_CONTAINER_LOG_LEVEL", "WARNING", id="its warnings are in its log"),
    ],
)
def test_a_replicas_environment_unless_the_job_says_otherwise(name: str, value: str) -> None:
    config = AscendServeConfig(model=ModelConfig(path="m"))
    assert replica_runtime_env(config, {})["env_vars"][name] == value
    assert replica_runtime_env(config, {"env_vars": {name: "7"}})["env_vars"][name] == "7"

"""The platform: chosen only where it is asked for, and what it reads from the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ascend_serve.emulated import ENABLE_ENV_VAR, platform_plugin
from ascend_serve.emulated.device import current_device, device_of_config, initialize_device
from ascend_serve.emulated.platform import EmulatedNPUPlatform, _DeviceSettings, _schedules_ahead, _spread_threads
from ascend_serve.errors import ConfigError


@pytest.fixture(autouse=True)
def same_device_afterwards() -> Iterator[None]:
    before = current_device()
    yield
    initialize_device(before)


@pytest.mark.parametrize(
    ("value", "chosen"),
    [(None, False), ("0", False), ("", False), ("1", True)],
    ids=["unset", "zero", "empty", "one"],
)
def test_the_platform_is_chosen_by_its_variable(
    value: str | None, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENABLE_ENV_VAR, raising=False)
    if value is not None:
        monkeypatch.setenv(ENABLE_ENV_VAR, value)
    name = f"{EmulatedNPUPlatform.__module__}.{EmulatedNPUPlatform.__name__}"
    assert platform_plugin() == (name if chosen else None)


def config(additional: Any, instance_id: str = "group", **parallel: Any) -> Any:
    defaults = {"tensor_parallel_size": 1, "data_parallel_size": 1, "enable_expert_parallel": False}
    return SimpleNamespace(
        additional_config=additional, instance_id=instance_id, parallel_config=SimpleNamespace(**(defaults | parallel))
    )


def test_a_device_as_configured() -> None:
    options = {"ascend_serve": {"emulated": {"stream_quota": [100, 50]}}}
    device = device_of_config(config(options, tensor_parallel_size=2), rank=1)
    assert (device.rank, device.streams.quota) == (1, 50)


@pytest.mark.parametrize(
    ("parallel", "variable", "streams"),
    [
        pytest.param({}, None, 1, id="one rank"),
        pytest.param({"tensor_parallel_size": 2}, None, 3, id="FFTS+"),
        pytest.param({"tensor_parallel_size": 2}, "AIV", 2, id="AIV"),
        pytest.param({"tensor_parallel_size": 2, "data_parallel_size": 2}, "AIV", 3, id="AIV, two groups"),
    ],
)
def test_a_graph_takes_the_streams_that_the_planner_expects(
    parallel: dict[str, int], variable: str | None, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HCCL_OP_EXPANSION_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("HCCL_OP_EXPANSION_MODE", variable)
    assert device_of_config(config({}, instance_id="group", **parallel), rank=0).streams_per_graph == streams


@pytest.mark.parametrize("additional", [{}, None, {"ascend_serve": {}}], ids=["empty", "none", "no options"])
def test_a_device_without_configuration_is_whole_and_healthy(additional: Any) -> None:
    device = device_of_config(config(additional), rank=0)
    assert (device.streams.left, device.streams_per_graph) == (2048, 1)
    device.faults.strike("serve")


def test_faults_strike_only_the_first_workers_of_a_group() -> None:
    faults = [{"rank": 0, "phase": "propose", "error": "unknown"}]
    options = {"ascend_serve": {"emulated": {"faults": faults}}}
    device_of_config(config(options, instance_id="group_dp1-r1"), rank=0).faults.strike("propose")
    with pytest.raises(RuntimeError):
        device_of_config(config(options, instance_id="group_dp1"), rank=0).faults.strike("propose")


def test_a_quota_list_that_is_too_short() -> None:
    options = {"ascend_serve": {"emulated": {"stream_quota": [100]}}}
    with pytest.raises(ConfigError, match=r"emulated\.stream_quota"):
        device_of_config(config(options, tensor_parallel_size=2), rank=1)


def test_the_platform_speaks_for_the_device() -> None:
    faults = [{"rank": 0, "phase": "propose", "error": "unknown"}]
    options = {"ascend_serve": {"emulated": {"stream_quota": 10, "faults": faults}}}
    initialize_device(device_of_config(config(options), rank=0))
    assert EmulatedNPUPlatform.streams_left() == 10
    EmulatedNPUPlatform.scripted_fault("join")
    with pytest.raises(RuntimeError, match="NPU function error"):
        EmulatedNPUPlatform.scripted_fault("propose")


@pytest.mark.parametrize(
    ("cpus", "ranks", "said", "expected"),
    [
        pytest.param({0, 1}, 2, None, "0|1", id="one CPU each"),
        pytest.param({0, 1, 2, 3}, 2, None, "0,2|1,3", id="two CPUs each"),
        pytest.param({0}, 2, None, "0|0", id="fewer CPUs than ranks"),
        pytest.param({0, 1}, 1, None, None, id="one rank binds on its own"),
        pytest.param({0, 1}, 2, "nobind", "nobind", id="as the user said"),
    ],
)
def test_ranks_share_the_cpus(
    cpus: set[int], ranks: int, said: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: cpus)
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    environment: dict[str, str] = {} if said is None else {"VLLM_CPU_OMP_THREADS_BIND": said}
    monkeypatch.setattr("ascend_serve.emulated.platform.os.environ", environment)
    _spread_threads(ranks)
    assert environment.get("VLLM_CPU_OMP_THREADS_BIND") == expected


@pytest.mark.parametrize(
    ("ranks", "device_time", "asked", "ahead"),
    [
        pytest.param(1, {}, True, True, id="a core beside the rank"),
        pytest.param(2, {}, True, False, id="ranks take every core"),
        pytest.param(2, {"fixed": 15}, True, True, id="the device takes time without a core"),
        pytest.param(1, {}, False, False, id="not asked for"),
    ],
)
def test_the_scheduler_runs_ahead_where_it_has_a_core(
    ranks: int, device_time: dict[str, float], asked: bool, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    options = config({"ascend_serve": {"emulated": {"device_time": device_time}}}, local_world_size=ranks)
    options.scheduler_config = SimpleNamespace(async_scheduling=asked)
    assert bool(_schedules_ahead(options)) is ahead


@pytest.mark.parametrize(
    ("mode", "npugraph_ex", "lora", "compiles"),
    [
        pytest.param("FULL_DECODE_ONLY", True, None, True, id="asked for"),
        pytest.param("FULL", True, None, True, id="asked for, FULL"),
        pytest.param("FULL_DECODE_ONLY", False, None, False, id="not asked for"),
        pytest.param("NONE", True, None, False, id="the group came down to eager"),
        pytest.param("FULL_DECODE_ONLY", True, object(), False, id="LoRA"),
    ],
)
def test_where_npugraph_ex_compiles_the_model(
    mode: str, npugraph_ex: bool, lora: object, compiles: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

    options = config({"ascend_compilation_config": {"enable_npugraph_ex": npugraph_ex}}, local_world_size=1)
    options.scheduler_config = SimpleNamespace(async_scheduling=False)
    options.lora_config = lora
    options.compilation_config = CompilationConfig(cudagraph_mode=CUDAGraphMode[mode])
    with caplog.at_level("WARNING", "ascend_serve.emulated.platform"):
        _DeviceSettings.of(options).restore(options)
    assert (options.compilation_config.mode is CompilationMode.DYNAMO_TRACE_ONCE) is compiles
    assert ("npugraph_ex has no effect" in caplog.text) is (lora is not None)

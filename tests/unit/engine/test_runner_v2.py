"""Which seam a model runner gets, and how that of Model Runner V2 walks vLLM's own graph manager (vLLM 0.32.0)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import CUDAGraphMode
from vllm.v1.worker.cpu_model_runner import CPUModelRunner as FirstRunner
from vllm.v1.worker.gpu import cudagraph_utils
from vllm.v1.worker.gpu.cudagraph_utils import ModelCudaGraphManager
from vllm.v1.worker.gpu.model_runner import GPUModelRunner as SecondRunner

from ascend_serve.emulated import device as devices
from ascend_serve.emulated.device import EmulatedDevice, initialize_device
from ascend_serve.emulated.graph_manager import FaultyGraph
from ascend_serve.emulated.npu_graph import NPUGraph
from ascend_serve.emulated.stream_pool import StreamPool
from ascend_serve.engine import runner_choice
from ascend_serve.engine.runner_choice import check_model_runner, seam_of
from ascend_serve.engine.runner_v1 import FirstRunnerSeam
from ascend_serve.engine.runner_v2 import SecondRunnerSeam
from ascend_serve.errors import EngineError, VendorInterfaceError
from ascend_serve.graph.keys import GraphKey, capture_keys
from ascend_serve.graph.modes import GraphMode

MAX_REQUESTS = 8
MAX_TOKENS = 32


def bare(runner_class: type) -> Any:
    """A runner of a class, without what its start would need."""
    return object.__new__(runner_class)


@pytest.mark.parametrize(
    ("runner_class", "seam"),
    [
        pytest.param(FirstRunner, FirstRunnerSeam, id="vLLM's for a CPU"),
        pytest.param(SecondRunner, SecondRunnerSeam, id="Model Runner V2"),
        pytest.param(type("NPUModelRunner", (SecondRunner,), {}), SecondRunnerSeam, id="one that comes from it"),
    ],
)
def test_a_seam_is_chosen_by_what_runs(runner_class: type, seam: type) -> None:
    assert type(seam_of(bare(runner_class))) is seam


class MMEncoderModelRunner:
    """A runner that comes from neither."""


def test_an_unknown_runner_is_refused_by_name() -> None:
    with pytest.raises(EngineError, match=r"the workers run \S+test_runner_v2.MMEncoderModelRunner") as error:
        seam_of(MMEncoderModelRunner())
    assert "vllm.v1.worker.gpu.model_runner.GPUModelRunner" in error.value.remedy


@pytest.mark.parametrize(
    ("installed", "emulated", "refused"),
    [("0.23.0", False, True), ("0.26.0rc1", False, False), ("0.30.0rc2", False, False), ("", True, False)],
)
def test_a_release_without_it_refuses_the_second_runner(
    installed: str, emulated: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_choice, "is_emulated", lambda: emulated)
    monkeypatch.setattr(runner_choice, "installed_version", lambda: installed)
    config: Any = SimpleNamespace(use_v2_model_runner=True)
    if refused:
        with pytest.raises(EngineError, match=r"vllm-ascend 0\.23\.0 does not have"):
            check_model_runner(config)
    else:
        check_model_runner(config)


class Runner:
    """As much of Model Runner V2 as captures: its manager, and a model that doubles."""

    def __init__(self, manager: ModelCudaGraphManager) -> None:
        self.cudagraph_manager = manager
        self.compilation_config = manager.compilation_config
        self.max_num_tokens = MAX_TOKENS
        self.speculator: Any = None
        self.inputs = torch.zeros(MAX_TOKENS)

    def capture_model(self) -> None:
        for manager in (self.cudagraph_manager, getattr(self.speculator, "manager", None)):
            if manager is not None:
                # As ModelCudaGraphManager.capture ends: it makes the forward passes, the loop is its parent's.
                cudagraph_utils.CudaGraphManager.capture(manager, self.create)

    def create(self, desc: Any, warmup: bool) -> Callable[[Any], None]:
        manager = self.cudagraph_manager

        def forward(mode: Any) -> None:
            output = self.inputs[: desc.num_tokens] * 2
            if manager.hidden_states is None:
                manager.hidden_states = torch.empty_like(output)
            manager.hidden_states[: desc.num_tokens] = output

        return forward


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> EmulatedDevice:
    monkeypatch.setattr(devices, "_device", devices.current_device())
    made = EmulatedDevice(streams=StreamPool(100, 0))
    initialize_device(made)
    return made


def _manager(mode: CUDAGraphMode, sizes: tuple[int, ...]) -> ModelCudaGraphManager:
    parallel = SimpleNamespace(tensor_parallel_size=1, data_parallel_size=1)
    config: Any = SimpleNamespace(
        scheduler_config=SimpleNamespace(max_num_seqs=MAX_REQUESTS),
        compilation_config=SimpleNamespace(
            cudagraph_mode=mode, cudagraph_capture_sizes=list(sizes), max_cudagraph_capture_size=max(sizes)
        ),
        parallel_config=parallel,
        speculative_config=None,
        use_cumem_cudagraph_pool=False,
        cache_config=SimpleNamespace(use_kda_recoverssm=False),
    )
    return ModelCudaGraphManager(config, torch.device("cpu"), mode, 1)


@pytest.fixture
def made(device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SecondRunnerSeam]:
    group = SimpleNamespace(is_first_rank=True, is_last_rank=True)
    monkeypatch.setattr(cudagraph_utils, "get_pp_group", lambda: group)
    monkeypatch.setattr(cudagraph_utils, "is_global_first_rank", lambda: False)
    monkeypatch.setattr(cudagraph_utils, "graph_capture", lambda device: nullcontext())
    monkeypatch.setattr(cudagraph_utils, "capture_pool", lambda pool, config: nullcontext(pool))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", NPUGraph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, stream: FaultyGraph(graph, pool, stream=stream))
    monkeypatch.setattr(ModelCudaGraphManager, "_capture_stream", lambda _, desc: desc)
    pools = iter((0, number) for number in range(1, 1000))
    platform = SimpleNamespace(get_global_graph_pool=lambda: None, graph_pool_handle=lambda: next(pools))
    monkeypatch.setattr(cudagraph_utils, "current_platform", platform)
    monkeypatch.setattr("ascend_serve.engine.runner_v2.held_by_wrappers", frozenset)
    monkeypatch.setattr("ascend_serve.engine.runner_v2.release_from_wrappers", lambda keys: None)
    monkeypatch.setattr("ascend_serve.engine.runner_v2.new_pool_for_wrappers", lambda: next(pools))

    def make(mode: str = "FULL_DECODE_ONLY", sizes: tuple[int, ...] = (1, 2, 4, 8)) -> SecondRunnerSeam:
        return SecondRunnerSeam(Runner(_manager(CUDAGraphMode[mode], sizes)))

    return make


def take(key: GraphKey, original: Callable[[], None]) -> None:
    original()


@pytest.mark.parametrize("mode", ["FULL", "FULL_DECODE_ONLY"])
def test_each_graph_of_the_plan_goes_through_the_hook_largest_first(mode: str, made: Any) -> None:
    seam = made(mode)
    seen: list[GraphKey] = []

    def note(key: GraphKey, original: Callable[[], None]) -> None:
        seen.append(key)
        original()

    with torch.inference_mode(), seam.hooked(note):
        seam.capture_model()
    expected = capture_keys(GraphMode(mode), (1, 2, 4, 8), max_num_seqs=MAX_REQUESTS)
    assert tuple(seen) == expected
    assert seam.held() == frozenset(expected)


def test_what_is_not_captured_is_not_held_and_the_loop_goes_on(made: Any) -> None:
    seam = made()
    with torch.inference_mode(), seam.hooked(lambda key, original: original() if key.num_tokens != 4 else None):
        seam.capture_model()
    assert sorted(key.num_tokens for key in seam.held()) == [1, 2, 8]


def test_without_the_hook_the_loop_is_vllms_own_again(made: Any) -> None:
    loop = cudagraph_utils.CudaGraphManager.capture
    with made().hooked(take):
        assert cudagraph_utils.CudaGraphManager.capture is not loop
    assert cudagraph_utils.CudaGraphManager.capture is loop


def test_a_refusal_of_the_device_is_no_failure_of_the_warm_up(made: Any, device: EmulatedDevice) -> None:
    seam = made()
    device.streams.quota = 2
    phases = {}

    def attempt(key: GraphKey, original: Callable[[], None]) -> None:
        with seam.watch_capture() as watch:
            try:
                original()
            except RuntimeError:
                phases[key.num_tokens] = watch.capturing
                seam.change_pool()

    with torch.inference_mode(), seam.hooked(attempt):
        seam.capture_model()
    assert phases == {2: True, 1: True}
    assert sorted(key.num_tokens for key in seam.held()) == [4, 8]


def test_a_failure_of_the_warm_up_is_one(made: Any) -> None:
    seam = made()
    seam.runner.inputs = None
    with torch.inference_mode(), seam.watch_capture() as watch, pytest.raises(TypeError), seam.hooked(take):
        seam.capture_model()
    assert not watch.capturing


def test_a_replay_gives_what_a_forward_pass_gives_also_of_a_plan_with_larger_graphs(made: Any) -> None:
    seam = made(sizes=(1, 2))
    with torch.inference_mode(), seam.hooked(take):
        seam.capture_model()
        seam.dispatch(GraphMode.FULL_DECODE_ONLY, (2, 8))
        kept = {key for key in seam.held() if key.num_tokens == 2}
        seam.release(seam.held() - kept)

        def capture_missing(key: GraphKey, original: Callable[[], None]) -> None:
            if key not in kept:
                original()

        with seam.hooked(capture_missing):
            seam.capture_model()
    manager = seam.runner.cudagraph_manager
    assert sorted(key.num_tokens for key in seam.held()) == [2, 8]
    for size in (2, 8):
        seam.runner.inputs[:size] = torch.arange(size) + 1
        desc = manager.dispatch(size, size, 1, 0)
        with torch.inference_mode():
            assert manager.run_fullgraph(desc).tolist() == [2.0 * (row + 1) for row in range(size)]


def test_without_a_plan_steps_run_eager(made: Any) -> None:
    seam = made()
    with torch.inference_mode(), seam.hooked(take):
        seam.capture_model()
    seam.release(seam.held())
    seam.dispatch(GraphMode.NONE, ())
    assert seam.held() == frozenset()
    assert seam.runner.cudagraph_manager.dispatch(1, 1, 1, 0).cg_mode is CUDAGraphMode.NONE
    assert seam.mode is GraphMode.NONE


def test_streams_of_released_graphs_come_back(made: Any, device: EmulatedDevice) -> None:
    seam = made()
    with torch.inference_mode(), seam.hooked(take):
        seam.capture_model()
    assert device.streams.left == 96
    seam.release(seam.held())
    assert device.streams.left == 100


def test_drafts_run_without_graphs_and_the_proposal_says_so(made: Any) -> None:
    seam = made()
    assert seam.notes() == ()
    drafts = _manager(CUDAGraphMode.FULL_DECODE_ONLY, (1, 2))
    seam.runner.speculator = SimpleNamespace(manager=drafts)
    with torch.inference_mode(), seam.hooked(take):
        seam.capture_model()
    assert not drafts.graphs
    assert drafts.dispatch(1, 1, 1, 0).cg_mode is CUDAGraphMode.NONE
    assert [note.rule for note in seam.notes()] == ["drafts-of-model-runner-v2"]


def test_a_manager_of_another_kind_is_refused(made: Any) -> None:
    runner = SimpleNamespace(**dict.fromkeys(SecondRunnerSeam.needed))
    with pytest.raises(VendorInterfaceError, match="has no _candidates"):
        SecondRunnerSeam(runner).check()

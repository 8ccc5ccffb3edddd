"""What the engine core queues: a step behind each other one, but none behind the first of an idle engine."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreRequest, EngineCoreRequestType
from vllm.v1.engine.core import EngineCore

from ascend_serve.engine.first_prompts import mark_followed, queue_nothing_behind_first_prompts
from tests.unit.engine.test_open_requests import request


class Scheduler:
    """One request, which is running once it is scheduled, and its steps."""

    def __init__(self) -> None:
        self.requests: dict[str, EngineCoreRequest] = {}
        self.running: list[str] = []
        self.steps: list[str] = []

    def has_requests(self) -> bool:
        return True

    def schedule(self, *_: Any) -> Any:
        self.steps.append("decode" if self.running else "first prompt")
        self.running = ["request"]
        return SimpleNamespace(total_num_scheduled_tokens=1, pending_structured_output_tokens=False)

    def get_grammar_bitmask(self, _: Any) -> None:
        return None

    def update_from_output(self, _: Any, output: str) -> dict[int, Any]:
        return {0: output}


class Executor:
    """Has done a step as soon as it is given one."""

    def execute_model(self, _: Any, non_block: bool) -> Future[None]:
        return _done(None)

    def sample_tokens(self, _: Any, non_block: bool) -> Future[str]:
        return _done("token")


class Core(EngineCore):
    """An engine core whose steps are vLLM's."""

    def __init__(self) -> None:
        self.batch_queue: Any = deque(maxlen=2)
        self.batch_queue_size = 2
        self.scheduler: Any = Scheduler()
        self.model_executor: Any = Executor()
        self.is_mm_encoder_only = self.is_pooling_model = self.check_for_draft_tokens = False
        self.input_queue: Any = queue.Queue()
        self.aborts_queue: Any = SimpleNamespace(empty=lambda: True)

    def _handle_client_request(self, kind: EngineCoreRequestType, sent: EngineCoreRequest) -> None:
        assert kind is EngineCoreRequestType.ADD
        self.scheduler.requests[sent.request_id] = sent

    def _should_throttle_prefills(self) -> bool:
        return False

    def log_error_detail(self, _: Any) -> Any:
        return _nothing()

    def capture_iteration_details(self, _: Any) -> Any:
        return _nothing()

    def _attach_iteration_details(self, *_: Any) -> None:
        return

    def _attach_weight_version(self, *_: Any) -> None:
        return


def _done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


class _nothing:
    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


@pytest.fixture
def _vllms_step() -> Iterator[None]:
    step = EngineCore.step_with_batch_queue
    yield
    EngineCore.step_with_batch_queue = step


def config(*, is_async: bool, stages: int) -> VllmConfig:
    made: Any = SimpleNamespace(
        scheduler_config=SimpleNamespace(async_scheduling=is_async),
        parallel_config=SimpleNamespace(pipeline_parallel_size=stages),
    )
    return made


@pytest.mark.usefixtures("_vllms_step")
@pytest.mark.parametrize(
    ("is_async", "stages", "told"),
    [
        pytest.param(True, 1, [{0: "token"}, None, {0: "token"}], id="async: the first token, before a step is queued"),
        pytest.param(True, 2, [None, {0: "token"}, {0: "token"}], id="pipeline: filled from the first step on"),
        pytest.param(False, 1, [None, {0: "token"}, {0: "token"}], id="not async: vLLM's own"),
    ],
)
def test_what_three_steps_of_an_idle_engine_tell(is_async: bool, stages: int, told: list[Any]) -> None:
    queue_nothing_behind_first_prompts(config(is_async=is_async, stages=stages))
    core = Core()
    assert [core.step_with_batch_queue()[0] for _ in range(3)] == told
    assert core.scheduler.steps[0] == "first prompt"
    assert core.batch_queue_size == 2


@pytest.mark.usefixtures("_vllms_step")
def test_what_one_engine_core_of_a_process_does_is_not_for_the_next() -> None:
    queue_nothing_behind_first_prompts(config(is_async=True, stages=1))
    queue_nothing_behind_first_prompts(config(is_async=True, stages=2))
    core = Core()
    assert [core.step_with_batch_queue()[0] for _ in range(2)] == [None, {0: "token"}]


@pytest.mark.usefixtures("_vllms_step")
@pytest.mark.parametrize(
    ("sent", "in_first_step"),
    [
        pytest.param("a b", ["a"], id="one that is followed by nothing is computed at once"),
        pytest.param("a+ b+ c d", ["a", "b", "c"], id="those that were sent together are computed together"),
        pytest.param("a+ b+", ["a", "b"], id="what never comes is not waited for"),
    ],
)
def test_the_first_step_of_an_idle_engine(sent: str, in_first_step: list[str]) -> None:
    queue_nothing_behind_first_prompts(config(is_async=True, stages=1))
    core = Core()
    for name in sent.split():
        each = request(name.rstrip("+"), SamplingParams(max_tokens=9))
        if name.endswith("+"):
            mark_followed(each)
        core.input_queue.put((EngineCoreRequestType.ADD, each))
    core._handle_client_request(*core.input_queue.get())
    core.step_with_batch_queue()
    assert list(core.scheduler.requests) == in_first_step


@pytest.mark.usefixtures("_vllms_step")
def test_a_step_that_fails_leaves_the_queue_as_it_was() -> None:
    queue_nothing_behind_first_prompts(config(is_async=True, stages=1))
    core = Core()
    core.model_executor.sample_tokens = lambda *_, **__: _done(None)
    core.model_executor.execute_model = lambda *_, **__: _failed()
    with pytest.raises(RuntimeError, match="device"):
        core.step_with_batch_queue()
    assert core.batch_queue_size == 2


def _failed() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(RuntimeError("device"))
    return future

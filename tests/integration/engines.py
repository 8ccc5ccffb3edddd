"""Runs engines one after another in a process of its own: real vLLM on its CPU backend, real Ray, emulated NPUs.

``python -m tests.integration.engines SCENARIOS`` reads a JSON list of scenarios and prints one JSON result a line. The
platform is chosen when vLLM is imported, so the stock CPU backend and the emulated NPU need different processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.emulated.processor import allow_tiles
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.planning import DeploymentPlan, plan_deployment

if TYPE_CHECKING:
    from ascend_serve.replica.spares import Spares

ROOT = Path(__file__).parents[2]
MARK = "RESULT "


@dataclass(frozen=True)
class Scenario:
    """One engine to start, and what to generate on it.

    Attributes:
        name: Names it in results.
        overrides: ``key=value`` over ``configs/demo.yaml``.
        batches: Numbers of requests that are decoded together.
        max_tokens: Tokens of each answer.
        stock: Whether to run stock vLLM on its plain CPU backend: the reference.
        spares: Whether spare workers wait for it.
    """

    name: str
    overrides: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 3)
    max_tokens: int = 12
    stock: bool = False
    spares: bool = False


@dataclass(frozen=True)
class Result:
    """What came of a scenario.

    Attributes:
        name: Of the scenario.
        tokens: Token ids by number of requests; empty when the engine did not start.
        replays: Replayed graphs on each rank.
        nodes: Ray's id of each rank's node.
        environments: What each rank has of the variables that differ per node.
        spares: Process ids of the spare workers that it found.
        snapshot: What the capture driver knew at the end.
        error: Problem and remedy of the error that ended the start-up.
        seconds: From the start of the engine until it was ready.
    """

    name: str
    tokens: dict[str, list[list[int]]] = field(default_factory=dict)
    replays: list[int] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    spares: list[int] = field(default_factory=list)
    snapshot: Snapshot | None = None
    error: str = ""
    seconds: float = 0.0

    @property
    def known(self) -> Snapshot:
        """The snapshot of an engine that had a driver."""
        assert self.snapshot is not None, self.error
        return self.snapshot

    @property
    def plan(self) -> CapturePlan:
        """The plan that holds."""
        assert self.known.plan is not None, self.error
        return self.known.plan


RESULT = TypeAdapter(Result)


def run(
    scenarios: Sequence[Scenario],
    npus: int = 4,
    nodes: int = 1,
    *,
    through: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
) -> Iterator[Result]:
    """Start the engines of ``scenarios`` in one fresh process, all stock or none, and yield their results.

    Args:
        scenarios: What to run.
        npus: Emulated NPUs of each node.
        nodes: Nodes of the Ray cluster, each a raylet of its own on this machine.
        through: What to put before the command.
        env: Environment of the process; with ``RAY_ADDRESS`` in it, no cluster is started.
    """
    stock = {scenario.stock for scenario in scenarios}
    if len(stock) != 1:
        raise ValueError("stock and emulated scenarios need different processes")
    env = {**env, "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(stock.pop())), "RAY_AUTH_MODE": "token"}
    if env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0":
        env["ASCEND_SERVE_EMULATED_NPU"] = "1"
    numbers = [str(npus), str(nodes)]
    module = [*through, sys.executable, "-m", "tests.integration.engines"]
    command = [*module, json.dumps([asdict(scenario) for scenario in scenarios]), *numbers]
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=sys.stderr) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(MARK):
                yield RESULT.validate_json(line.removeprefix(MARK))
            else:
                sys.stderr.write(line)
    if process.returncode:
        raise RuntimeError(f"the engine process ended with code {process.returncode}")


def main() -> None:
    """Run the scenarios given on the command line."""
    scenarios = [
        Scenario(**{**fields, "overrides": tuple(fields["overrides"]), "batches": tuple(fields["batches"])})
        for fields in json.loads(sys.argv[1])
    ]
    if scenarios[0].stock:
        results: Iterator[Result] = map(run_stock, scenarios)
    else:
        results = run_emulated(scenarios, *map(int, sys.argv[2:]))
    for result in results:
        print(f"\n{MARK}{RESULT.dump_json(result).decode()}", flush=True)


def run_stock(scenario: Scenario) -> Result:
    """Run the configuration's model and numbers on stock vLLM, eager."""
    from vllm import LLM

    # Its ranks inherit the grant, which a model as small as the demo's asks for too late: they would die of SIGILL.
    allow_tiles()
    config = configuration(scenario)
    tensor_parallel_size = config.parallel.tensor_parallel_size
    cores = sorted(os.sched_getaffinity(0))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(cores[r % len(cores)]) for r in range(tensor_parallel_size))
    started = time.monotonic()
    llm = LLM(
        model=config.model.path, tensor_parallel_size=tensor_parallel_size, enforce_eager=True, **_numbers(config.vllm)
    )
    seconds = time.monotonic() - started
    tokens = {str(batch): generate(llm.llm_engine, batch, scenario.max_tokens) for batch in scenario.batches}
    llm.llm_engine.engine_core.shutdown()
    return Result(scenario.name, tokens=tokens, seconds=seconds)


def run_emulated(scenarios: Sequence[Scenario], npus: int, nodes: int) -> Iterator[Result]:
    """Run scenarios on one Ray cluster with emulated NPUs."""
    import ray

    start_cluster(npus, nodes)
    try:
        for number, scenario in enumerate(scenarios):
            yield _run_one(scenario, f"scenario-{number}")
    finally:
        ray.shutdown()


def start_cluster(npus: int, nodes: int = 1) -> None:
    """Start a Ray cluster with emulated NPUs, or connect to the one that ``RAY_ADDRESS`` names."""
    import ray
    from ray.cluster_utils import Cluster

    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        cluster = Cluster()
        for _ in range(nodes):
            cluster.add_node(resources={"NPU": npus}, num_cpus=16, include_dashboard=False, object_store_memory=2**28)
        address = cluster.address
    ray.init(
        address=address,
        log_to_driver=False,
        runtime_env={"env_vars": {"ASCEND_SERVE_EMULATED_NPU": "1"}},
    )


def start_engine(scenario: Scenario) -> Any:
    """Start one emulated engine in this process, on a local Ray cluster of its own, and keep it."""
    import ray
    from vllm.v1.engine.llm_engine import LLMEngine

    config = configuration(scenario)
    start_cluster(config.parallel.world_size)
    placement_group = ray.util.placement_group([{"NPU": 1}] * config.parallel.world_size)
    return LLMEngine.from_vllm_config(engine_config(config, scenario.name, placement_group))


def _run_one(scenario: Scenario, group: str) -> Result:
    import ray
    from vllm.v1.engine.llm_engine import LLMEngine

    from ascend_serve.capture.client import DriverClient
    from ascend_serve.errors import AscendServeError
    from ascend_serve.replica.spares import Spares

    config = configuration(scenario)
    placement_group = ray.util.placement_group([{"NPU": 1}] * config.parallel.world_size)
    ray.get(placement_group.ready())
    started = time.monotonic()
    engine, spares = None, Spares(placement_group)
    try:
        vllm_config = engine_config(config, group, placement_group)
        waiting = _spare_processes(spares, group, vllm_config) if scenario.spares else []
        engine = LLMEngine.from_vllm_config(vllm_config)
        seconds = time.monotonic() - started
        engine.collective_rpc(count_replays)
        tokens = {str(batch): generate(engine, batch, scenario.max_tokens) for batch in scenario.batches}
        return Result(
            scenario.name,
            tokens=tokens,
            replays=engine.collective_rpc(count_replays),
            nodes=engine.collective_rpc(node_id),
            environments=engine.collective_rpc(node_variables),
            spares=waiting,
            snapshot=_snapshot(group),
            seconds=seconds,
        )
    except Exception as error:
        if not isinstance(error, AscendServeError):
            traceback.print_exc()
        return Result(scenario.name, error=repr(error), snapshot=_snapshot(group), seconds=time.monotonic() - started)
    finally:
        if engine is not None:
            engine.engine_core.shutdown()
        if (driver := DriverClient.find(group)) is not None:
            ray.kill(driver.handle)
        spares.end()
        ray.util.remove_placement_group(placement_group)


def _spare_processes(spares: Spares, group: str, vllm_config: Any) -> list[int]:
    """Have a spare worker for each rank, of which one is lost and begun anew; tell their process ids."""
    import ray

    worker_class = vllm_config.parallel_config.worker_cls

    async def leave_to_engine() -> None:
        keeping = asyncio.create_task(spares.keep(group, worker_class))
        while spares.number < vllm_config.parallel_config.world_size:
            await asyncio.sleep(0.1)
        keeping.cancel()
        spares.hand_over()
        ray.kill(spares.taken[-1])
        await spares.complete(group, worker_class)

    asyncio.run(leave_to_engine())
    return [ray.get(spare.__ray_call__.remote(lambda self: os.getpid())) for spare in spares.taken]


def _snapshot(group: str) -> Snapshot | None:
    from ascend_serve.capture.client import DriverClient

    driver = DriverClient.find(group)
    return None if driver is None else driver.glance()


def configuration(scenario: Scenario) -> Any:
    """What the engine of ``scenario`` is asked for."""
    from ascend_serve.config import load
    from ascend_serve.emulated.built_in_model import provide

    return load(ROOT / "configs" / "demo.yaml", [f"model.path={provide()}", *scenario.overrides])


def planned(config: Any) -> DeploymentPlan:
    """What is planned for a node with as many NPUs as are asked for."""
    return plan_deployment(config, nodes=[NodeOffer("node-0", "node-0", config.parallel.world_size)])


def arguments(config: Any) -> dict[str, Any]:
    """What vLLM is started with."""
    return planned(config).vllm_arguments


def engine_config(config: Any, group: str, placement_group: Any, **settings: Any) -> Any:
    """What an engine is started with; ``settings`` are more of `GroupSettings`."""
    from vllm.engine.arg_utils import EngineArgs

    from ascend_serve.config.passthrough import merge
    from ascend_serve.config.translate import SECTION
    from ascend_serve.engine.executor import LockstepRayExecutor

    args = merge(arguments(config), {"additional_config": {SECTION: settings}})
    args = {**args, "distributed_executor_backend": LockstepRayExecutor}
    vllm_config = EngineArgs(**args).create_engine_config()
    vllm_config.instance_id = group
    vllm_config.parallel_config.placement_group = placement_group
    return vllm_config


def _numbers(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("dtype", "max_model_len", "max_num_seqs", "kv_cache_memory_bytes")}


def generate(engine: Any, batch: int, max_tokens: int) -> list[list[int]]:
    """Greedy tokens of ``batch`` requests that are decoded together."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    for number in range(batch):
        engine.add_request(str(number), prompt(number), params)
    answers: dict[str, list[int]] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                answers[output.request_id] = list(output.outputs[0].token_ids)
    return [answers[str(number)] for number in range(batch)]


def prompt(number: int) -> str:
    """Prompts of different lengths and contents."""
    return f"request {number}: " + "how are you, world? " * (1 + number % 3)


def count_replays(worker: Any) -> int:
    """Count the replays of this rank: the first call starts to count."""
    from ascend_serve.emulated.npu_graph import NPUGraph

    counting: Any = NPUGraph
    if not hasattr(counting, "replays"):
        counting.replays, replay = 0, counting.replay

        def counted(graph: NPUGraph) -> None:
            counting.replays += 1
            replay(graph)

        counting.replay = counted
    return int(counting.replays)


def node_id(worker: Any) -> str:
    """Ray's id of this rank's node."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def node_variables(worker: Any) -> dict[str, str]:
    """What this rank has of the variables that differ per node."""
    from ascend_serve.node.environment import PER_NODE_VARIABLES

    return {name: os.environ[name] for name in (*PER_NODE_VARIABLES, "LOCAL_WORLD_SIZE") if name in os.environ}


if __name__ == "__main__":
    main()

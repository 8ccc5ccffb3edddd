"""The worker process with the environment of its own node.

vLLM hands the engine core's variables to the workers on all nodes (``get_driver_env_vars``, 0.23.0 and 0.32.0): its
node's interface and address would reach nodes that have neither.

Static kernels are compiled and installed once per node, by the first of its ``LOCAL_WORLD_SIZE`` ranks (torch_npu
2.10.0.post4, ``npugraph_ex/_acl_concrete_graph/static_kernel.py``). Where that is not set, vllm-ascend 0.23.0 takes all
ranks of an engine for ranks of one node, which they are under vLLM's multiprocessing, but not under Ray.
"""

from __future__ import annotations

import os
import socket
from typing import Any
from unittest.mock import patch

import ray

from ascend_serve.node.imports import uncollected

with uncollected():
    import vllm.v1.executor.ray_executor_v2 as vllm_executor
    from torch.distributed import TCPStore
    from vllm.config import ParallelConfig
    from vllm.platforms import current_platform
    from vllm.v1.executor import multiproc_executor
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    from ascend_serve.cluster.janitor import MEMBER
    from ascend_serve.engine.held_weights import HOLDER
    from ascend_serve.engine.queue_memory import forget_names
    from ascend_serve.engine.queue_wait import spare_cores
    from ascend_serve.engine.runner_choice import seam_of
    from ascend_serve.errors import ClusterError
    from ascend_serve.node.environment import PER_NODE_VARIABLES, node_environment
    from ascend_serve.node.finding import Status
    from ascend_serve.node.model_download import provide_model
    from ascend_serve.node.own_folder import SOCKETS_VARIABLE, use_own_folder_for_sockets
    from ascend_serve.node.probe import network_facts


class KnownRunnerWorker(WorkerWrapperBase):
    """vLLM's holder of a worker, which loads no model for a model runner that nobody here knows.

    Weights that are held in the memory of the host are copied from there.
    """

    def load_model(self, **options: Any) -> None:
        """Look at the model runner first.

        Raises:
            EngineError: It is none that is known.
        """
        seam_of(self.worker.model_runner)
        with HOLDER.loading(self.worker, int(os.environ["LOCAL_WORLD_SIZE"])):
            self.worker.load_model(**options)


class NodeWorkerProc(vllm_executor.RayWorkerProc):
    """vLLM's Ray worker, which finds out its node's interface, address and devices before anything reads them."""

    def initialize_worker(self, local_rank: int, env_vars: dict[str, str], *args: Any, **kwargs: Any) -> None:
        """Set what HCCL, Gloo, the device and static kernels read once, then start as vLLM does.

        vLLM 0.23.0 narrows ``ASCEND_RT_VISIBLE_DEVICES`` to the devices of this executor afterwards.

        Raises:
            ClusterError: A variable that is set on this node cannot work here.
            ModelError: The model is not on this node, and cannot be downloaded.
        """
        os.environ.update(environment_here())
        forget_names()
        if MEMBER not in os.environ:
            use_own_folder_for_sockets()
        # vLLM 0.32.0 names the devices of this executor on this node in an argument, 0.23.0 in a variable.
        devices = kwargs.get("assigned_physical_gpu_ids")
        if devices is None:
            devices = env_vars[current_platform.device_control_env_var].split(",")
        parallel_config: ParallelConfig = self._init_kwargs["vllm_config"].parallel_config
        provide_model(self._init_kwargs["vllm_config"].model_config.model)
        os.environ["LOCAL_WORLD_SIZE"] = str(local_world_size(len(devices), parallel_config))
        with patch.object(multiproc_executor, "WorkerWrapperBase", KnownRunnerWorker):
            super().initialize_worker(local_rank, env_vars, *args, **kwargs)

    def create_dist_init_method(self) -> str:
        """Where the ranks find each other (0.32.0): torch's store, which asks nobody who they are.

        vLLM has it on all interfaces, this one is on the node's own address alone.
        """
        host = ray.util.get_node_ip_address()
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = listener.getsockname()[1]
        # torch hands the same server on to whoever asks for one at this port, as long as this is held.
        self._store = TCPStore(
            host,
            port,
            is_master=True,
            wait_for_workers=False,
            multi_tenant=True,
            master_listen_fd=listener.detach(),
        )
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    def _init_message_queues(self, *args: Any, **kwargs: Any) -> None:
        super()._init_message_queues(*args, **kwargs)
        spare_cores(self.rpc_broadcast_mq, int(os.environ["LOCAL_WORLD_SIZE"]))


def local_world_size(ranks_here: int, parallel_config: ParallelConfig) -> int:
    """How many ranks of this deployment are on this node, with all data-parallel engines that share it.

    Args:
        ranks_here: Ranks of one engine on this node.
        parallel_config: Of the engine.
    """
    return ranks_here * max(1, parallel_config.data_parallel_size_local)


def environment_here() -> dict[str, str]:
    """What differs on this node, by what is set here and by what is found.

    Raises:
        ClusterError: A variable that is set cannot work here; with what can.
    """
    facts = network_facts()
    environment = node_environment(facts, {})
    wrong = [finding for finding in environment.findings if finding.status is Status.FAIL]
    if wrong:
        # One line, because only the first line of an error in a worker reaches the user.
        story = "; ".join(f"{finding.text}: {finding.fix}" for finding in wrong)
        raise ClusterError(f"Node {facts.hostname} ({facts.address}): {story}", "Correct it before `ray start` there.")
    return dict(environment.env)


def use_node_workers() -> None:
    """Let vLLM's executor start these workers, and keep one node's variables from the others."""
    vllm_executor.RayWorkerProc = NodeWorkerProc
    vllm_executor.WORKER_SPECIFIC_ENV_VARS.update({*PER_NODE_VARIABLES, SOCKETS_VARIABLE})

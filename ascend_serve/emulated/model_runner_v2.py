"""vLLM's Model Runner V2 for a CPU, with capture and replay. Checked against vLLM 0.32.0."""

from __future__ import annotations

from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
from vllm.config import VllmConfig
from vllm.forward_context import get_forward_context
from vllm.v1.worker.cpu.model_runner import CPUModelRunner
from vllm.v1.worker.gpu import model_runner

from ascend_serve.emulated.forward_time import ForwardTime, padded_tokens, stand_in_for_cuda
from ascend_serve.emulated.graph_manager import EmulatedGraphManager, stand_in_for_cuda_graphs


class EmulatedNPUModelRunnerV2(CPUModelRunner):
    """Its graphs are those of the emulated device, as those of vllm-ascend's ``worker/v2`` are the device's."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        stand_in_for_cuda()
        stand_in_for_cuda_graphs()
        super().__init__(vllm_config, device)
        self._time = ForwardTime(vllm_config)
        self._time.is_step = False

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model, whose forward passes are work of the device; a whole graph is replayed past it."""
        super().load_model(*args, **kwargs)
        run = self.model.forward

        @wraps(run)
        def forward(*args: Any, **inputs: Any) -> Any:
            context = get_forward_context()
            with self._time.forward(padded_tokens(context, inputs), context.cudagraph_runtime_mode):
                return run(*args, **inputs)

        self.model.forward = forward

    def execute_model(self, *args: Any, dummy_run: bool = False, **kwargs: Any) -> Any:
        """Run one step; dummy ones compile the model, where no launches can be counted."""
        self._time.is_step = not dummy_run
        try:
            return super().execute_model(*args, dummy_run=dummy_run, **kwargs)
        finally:
            self._time.is_step = False

    def initialize_kv_cache(self, *args: Any, **kwargs: Any) -> None:
        """Allocate the KV caches, and make the graph manager, which vLLM names in its own module only."""
        with patch.object(model_runner, "ModelCudaGraphManager", EmulatedGraphManager):
            super().initialize_kv_cache(*args, **kwargs)
        assert isinstance(self.cudagraph_manager, EmulatedGraphManager)
        self.cudagraph_manager.follow(self.model_state, self._time)

    def capture_model(self, **options: Any) -> int:
        """Capture every graph that the manager lists now. vLLM's worker for a CPU has no workspace that it could lock.

        Returns:
            Bytes by which free memory shrank.
        """
        with patch.object(model_runner, "lock_workspace"):
            return int(super().capture_model(**options))

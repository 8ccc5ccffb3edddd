"""What has to be there before modules are imported.

Torchvision, whose Python part is imported where its compiled part, made for another torch, is not: vllm-ascend imports
models that read images. It describes two of its operators to torch on import and fails where they do not exist, so they
are declared before; nobody calls them. And Triton's language, before vLLM or vllm-ascend defines a kernel in it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Any


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float t) -> Tensor")


class _BeforeKernels(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith(("vllm.v1.worker", "vllm.v1.sample", "vllm_ascend.ops")):
            sys.meta_path.remove(self)
            import_module("cann_sim_kernels").have_triton()


sys.meta_path[:0] = [_BeforeTorchvision(), _BeforeKernels()]

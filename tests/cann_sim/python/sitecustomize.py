"""Lets torchvision's Python part be imported where its compiled part, made for another torch, is not.

vllm-ascend imports models that read images. Torchvision describes two of its operators to torch on import and fails
where they do not exist, so they are declared before; nobody calls them.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float t) -> Tensor")


sys.meta_path.insert(0, _BeforeTorchvision())

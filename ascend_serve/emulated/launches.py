"""How many operators a forward pass launches, as a host that feeds a device would."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class LaunchCount(TorchDispatchMode):
    """Counts the operators that compute something while it is entered.

    Attributes:
        operators: How many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += not func.is_view
        return func(*args, **(kwargs or {}))

"""Records the operators of one capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._C._distributed_c10d import FakeWork
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.device_errors import forbidden, not_capturable

# Reading a tensor's value on the host does not pass the dispatcher on a CPU, where no copy is needed.
_HOST_READS = frozenset({torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.cpu})


@dataclass(frozen=True, slots=True)
class RecordedOperator:
    """One recorded call.

    Attributes:
        func: The operator overload, or a compiled function.
        args: Its positional arguments, as they were.
        kwargs: Its keyword arguments, as they were.
        result: What it returned.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def namespace(self) -> str:
        """Library that an operator is of, for example ``aten``; empty with a compiled function."""
        return str(self.func.namespace) if isinstance(self.func, OpOverload) else ""


class Recorder:
    """Runs operators and remembers them, from ``start`` to ``stop``.

    Reads back to the host raise what the device raises: the host cannot wait for a stream that is being captured. They
    spoil the recording.

    Attributes:
        operators: What was recorded.
        is_spoilt: Whether something was refused.
    """

    def __init__(self) -> None:
        self.operators: list[RecordedOperator] = []
        self.is_spoilt = False
        self._created: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._dispatch_mode = _RecordingMode(self)
        self._function_mode = _HostReadGuard(self)

    def start(self) -> None:
        """Record from here on."""
        self._function_mode.__enter__()
        self._dispatch_mode.__enter__()

    def stop(self) -> None:
        """Record no more."""
        self._dispatch_mode.__exit__(None, None, None)
        self._function_mode.__exit__(None, None, None)

    def spoil(self, error: RuntimeError) -> RuntimeError:
        """Note that ``error`` is about to be raised, after which nothing can come of the recording."""
        self.is_spoilt = True
        return error

    def remember(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep what the operator is about to overwrite and was there before the recording."""
        for tensor in _written(func, args, kwargs):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._created and storage._cdata not in self._before:
                self._before[storage._cdata] = (storage, storage.clone())

    def add(self, operator: RecordedOperator) -> None:
        """Record one call that was made."""
        known = {tensor.untyped_storage()._cdata for tensor in tensors_in((operator.args, operator.kwargs))}
        made = {tensor.untyped_storage()._cdata for tensor in tensors_in(operator.result)}
        self._created |= made - known
        self.operators.append(operator)

    def launch(self, func: Callable[..., Any], args: tuple[Any, ...], result: Callable[..., Any]) -> Any:
        """Record one call of ``func``, which does not pass the dispatcher, without making it.

        Args:
            func: What a replay calls.
            args: With what.
            result: Makes from ``args`` the memory for what it returns.
        """
        self.stop()
        try:
            made = result(*args)
        finally:
            self.start()
        self.add(RecordedOperator(func, args, {}, made))
        return made

    def undo(self) -> None:
        """Give what was there before the recording its contents back."""
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()


class _RecordingMode(TorchDispatchMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _needs_host_read(func, args, kwargs):
            raise self._recorder.spoil(not_capturable(current_device().rank, str(func)))
        if _is_composite(func):
            # Inference mode hands composite operators to the mode whole; their parts have the out-variants that a
            # static program needs.
            with self:
                return func.decompose(*args, **kwargs)
        if func is torch.ops.aten.lift_fresh.default:
            # A constant made by the host: later operators may write it, but each replay starts from what it is now.
            self._recorder.add(RecordedOperator(func, (args[0].clone(),), kwargs, args[0]))
            return args[0]
        self._recorder.remember(func, args, kwargs)
        with torch._C.DisableTorchFunction():
            result = _pending(func, args) if _is_collective(func) else func(*args, **kwargs)
        self._recorder.add(RecordedOperator(func, args, kwargs, result))
        return result


class _HostReadGuard(TorchFunctionMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _HOST_READS:
            raise self._recorder.spoil(forbidden(current_device().rank, getattr(func, "__name__", str(func))))
        return func(*args, **(kwargs or {}))


def _is_collective(func: Any) -> bool:
    """Whether ``func`` waits for other ranks: torch.distributed's operators and vLLM's through shared memory."""
    return func.namespace == "c10d" or func.name().startswith("_C::shm_")


def _pending(func: Any, args: tuple[Any, ...]) -> Any:
    """What a collective returns, without running it: as on the device, a rank captures without its peers."""
    returns = len(func._schema.returns)
    if returns == 0:
        return None
    work = FakeWork().boxed()
    # The operators of torch.distributed 2.13 write into their first argument and return it, or return the work alone.
    return work if returns == 1 else (args[0], work)


def _needs_host_read(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the result, or its shape, depends on values that only the device knows."""
    if func is torch.ops.aten.index.Tensor:
        # Only a mask makes the shape of the result depend on values.
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    if func is torch.ops.aten.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """Tensors that the operator may write."""
    if not func._schema.is_mutable:
        return
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from tensors_in(given)


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    """Tensors anywhere in arguments or a result."""
    return (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor))


def _is_composite(func: Any) -> bool:
    return func.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    )

"""Turns recorded operators into a program over static memory.

Every tensor that the capture created gets an address that never changes: those that are alive outside of the capture
keep theirs, all others share the memory pool. Views and uninitialised factories then need no work at replay, operators
with an out-variant write in place, what nobody reads is left out, and the rest becomes a straight-line Python function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from ascend_serve.emulated.memory_pool import MemoryPool, place
from ascend_serve.emulated.recorder import RecordedOperator, tensors_in

_UNINITIALISED = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"})
# The replay runs in one thread on one device: autograd's bookkeeping means nothing to it.
_BOOKKEEPING = frozenset({"detach_"})


@dataclass(frozen=True, slots=True)
class _TensorRef:
    """A tensor that the capture created, by its place in a storage."""

    storage: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class _Step:
    """One call of the program.

    Attributes:
        call: What is called; a plain Python callable.
        args: Positional arguments, tensors of the capture as ``_TensorRef``.
        kwargs: Keyword arguments likewise.
        copies: Results that must be copied to static memory: (path into the result, destination).
        waits: Paths into the result where a collective's ``Work`` stands.
        touches: Storages of the capture that it reads or writes.
        writes: Storages of the capture that it may write.
        removable: Whether it may be left out when nobody reads what it writes.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    copies: tuple[tuple[tuple[Any, ...], _TensorRef], ...] = ()
    waits: tuple[tuple[Any, ...], ...] = ()
    touches: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    removable: bool = False


@dataclass(slots=True)
class Recording:
    """Steps of a capture and the storages that it created, free of references to its tensors."""

    steps: list[_Step] = field(default_factory=list)
    storages: list[StorageWeakRef] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)
    keys: dict[int, int] = field(default_factory=dict)
    external: set[int] = field(default_factory=set)

    def poison(self) -> None:
        """Fill what the capture created and is still alive with NaN: a device would not have computed it yet."""
        for storage in self.storages:
            if not storage.expired():
                _alive(storage).fill_(0xFF)


def trace(operators: list[RecordedOperator]) -> Recording:
    """Describe recorded operators by storages, and empty the list.

    Afterwards only tensors that are alive outside of the capture still hold their storage.
    """
    recording = Recording()
    for operator in operators:
        _add(recording, operator)
    # Storages are recognised by address while the operators hold them: none can be freed and used again before here.
    recording.keys.clear()
    operators.clear()
    return recording


def compile_program(recording: Recording, pool: MemoryPool) -> Callable[[], None]:
    """Make the function that replays ``recording``."""
    escaped = {index for index, storage in enumerate(recording.storages) if not storage.expired()}
    steps = _without_dead_steps(recording.steps, escaped)
    tensors = _StaticTensors(recording, escaped, _intervals(steps, escaped), pool)
    return _generate(steps, tensors)


def _add(recording: Recording, operator: RecordedOperator) -> None:
    inputs = list(tensors_in((operator.args, operator.kwargs)))
    for tensor in inputs:
        if _key(tensor) not in recording.keys:
            recording.external.add(_key(tensor))
    outputs = [
        (path, leaf) for path, leaf in pytree.tree_leaves_with_path(operator.result) if isinstance(leaf, torch.Tensor)
    ]
    known = recording.keys.keys() | recording.external
    created = [(path, tensor) for path, tensor in outputs if _key(tensor) not in known]
    for _, tensor in created:
        _new_storage(recording, tensor)
    if not _needs_no_step(operator, bool(created)):
        recording.steps.append(_step(recording, operator, created))


def _new_storage(recording: Recording, tensor: torch.Tensor) -> None:
    if _key(tensor) in recording.keys:
        return
    storage = tensor.untyped_storage()
    recording.keys[_key(tensor)] = len(recording.storages)
    recording.storages.append(StorageWeakRef(storage))
    recording.nbytes.append(storage.nbytes())


def _needs_no_step(operator: RecordedOperator, creates: bool) -> bool:
    if operator.namespace != "aten":
        return False
    schema = operator.func._schema
    name = schema.name.removeprefix("aten::")
    is_view = not creates and not schema.is_mutable
    return is_view or name in _UNINITIALISED or name in _BOOKKEEPING


def _step(recording: Recording, operator: RecordedOperator, created: list[tuple[Any, torch.Tensor]]) -> _Step:
    func, is_aten = operator.func, operator.namespace == "aten"
    args, kwargs = pytree.tree_map_only(
        torch.Tensor, lambda tensor: _ref(recording, tensor), (tuple(operator.args), dict(operator.kwargs))
    )
    creates = {_path(path): _ref(recording, tensor) for path, tensor in created if tensor.numel()}
    pure = is_aten and not func._schema.is_mutable
    read = {leaf.storage for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, _TensorRef)}
    made = {recording.keys[_key(tensor)] for _, tensor in created}
    call: Callable[..., Any] = func._op if operator.namespace else func
    out_variant = _out_variant(func, kwargs) if pure and list(creates) == [()] else None
    if out_variant is not None:
        kwargs = {key: value for key, value in kwargs.items() if key in out_variant[1]} | {"out": creates[()]}
        call, creates = out_variant[0], {}
    return _Step(
        call=call,
        args=args,
        kwargs=kwargs,
        copies=tuple(creates.items()),
        waits=_works(operator) if operator.namespace == "c10d" else (),
        touches=frozenset(read | made),
        writes=frozenset(made if pure else read | made),
        removable=is_aten and _writes_only_created(recording, operator),
    )


def _writes_only_created(recording: Recording, operator: RecordedOperator) -> bool:
    """Whether an operator of torch's own library writes no memory that was there before the capture."""
    if not operator.func._schema.is_mutable:
        return True
    return all(_key(tensor) in recording.keys for tensor in tensors_in((operator.args, operator.kwargs)))


def _works(operator: RecordedOperator) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        _path(path)
        for path, leaf in pytree.tree_leaves_with_path(operator.result)
        if not isinstance(leaf, torch.Tensor) and hasattr(leaf, "wait")
    )


def _out_variant(func: Any, kwargs: dict[str, Any]) -> tuple[Callable[..., Any], frozenset[str]] | None:
    """The overload that writes its one result to ``out``, and the keyword arguments that it takes."""
    wanted = [(argument.name, str(argument.type)) for argument in func._schema.arguments]
    options = {"dtype", "layout", "device", "pin_memory", "memory_format"}
    for name in func._overloadpacket.overloads():
        candidate = getattr(func._overloadpacket, name)
        arguments = candidate._schema.arguments
        outs = [argument.name for argument in arguments if argument.is_out]
        rest = [(argument.name, str(argument.type)) for argument in arguments if not argument.is_out]
        if outs == ["out"] and [a for a in wanted if a[0] not in options] == [a for a in rest if a[0] not in options]:
            names = frozenset(name for name, _ in rest)
            if all(key in names or key in options for key in kwargs):
                return candidate._op, names
    return None


def _without_dead_steps(steps: list[_Step], escaped: set[int]) -> list[_Step]:
    live = set(escaped)
    kept: list[_Step] = []
    for step in reversed(steps):
        if step.removable and not step.writes & live:
            continue
        live |= step.touches
        kept.append(step)
    return kept[::-1]


def _intervals(steps: list[_Step], escaped: set[int]) -> dict[int, tuple[int, int]]:
    """First and last step that touches each storage of the pool."""
    intervals: dict[int, tuple[int, int]] = {}
    for position, step in enumerate(steps):
        for storage in step.touches - escaped:
            first, _ = intervals.get(storage, (position, position))
            intervals[storage] = (first, position)
    return intervals


class _StaticTensors:
    """Tensors at their static addresses."""

    def __init__(
        self, recording: Recording, escaped: set[int], intervals: dict[int, tuple[int, int]], pool: MemoryPool
    ) -> None:
        self._storages = {index: _alive(recording.storages[index]) for index in escaped}
        self._offsets, total = place({index: recording.nbytes[index] for index in intervals}, intervals)
        self._pool_storage = pool.storage(total)
        self._made: dict[_TensorRef, torch.Tensor] = {}

    def resolve(self, ref: _TensorRef) -> torch.Tensor:
        """The tensor that ``ref`` describes."""
        if ref not in self._made:
            storage = self._storages.get(ref.storage, self._pool_storage)
            base = self._offsets.get(ref.storage, 0) // ref.dtype.itemsize
            empty = torch.empty(0, dtype=ref.dtype)
            self._made[ref] = empty.set_(storage, base + ref.offset, ref.size, ref.stride)
        return self._made[ref]


def _generate(steps: list[_Step], tensors: _StaticTensors) -> Callable[[], None]:
    """Write the steps as one Python function whose constants are its default arguments, the fastest names there are."""
    constants: dict[str, Any] = {}

    def name(value: Any) -> str:
        key = f"c{len(constants)}"
        constants[key] = value
        return key

    lines: list[str] = []
    for step in steps:
        args, kwargs = pytree.tree_map_only(_TensorRef, tensors.resolve, (step.args, step.kwargs))
        given = [name(arg) for arg in args] + [f"{key}={name(value)}" for key, value in kwargs.items()]
        call = f"{name(step.call)}({', '.join(given)})"
        lines.append(f"r = {call}" if step.copies or step.waits else call)
        lines.extend(f"r{_subscript(path)}.wait()" for path in step.waits)
        lines.extend(f"{name(tensors.resolve(to))}.copy_(r{_subscript(path)})" for path, to in step.copies)
    source = f"def replay({', '.join(f'{key}={key}' for key in constants)}):\n    " + "\n    ".join(lines or ["pass"])
    exec(compile(source, "<captured graph>", "exec"), constants)  # the source is made above, of names only
    replay: Callable[[], None] = constants["replay"]
    return replay


def _subscript(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r}]" for key in path)


def _path(keys: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(key.idx if isinstance(key, pytree.SequenceKey) else key.key for key in keys)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _ref(recording: Recording, tensor: torch.Tensor) -> Any:
    """``tensor`` by its place in a storage of the capture; the tensor itself where it was there before."""
    index = recording.keys.get(_key(tensor))
    if index is None:
        return tensor
    return _TensorRef(index, tensor.dtype, tuple(tensor.size()), tuple(tensor.stride()), tensor.storage_offset())


def _alive(storage: StorageWeakRef) -> torch.UntypedStorage:
    return torch.UntypedStorage._new_with_weak_ptr(storage.cdata)

"""Triton's language in NumPy, as far as vLLM's kernels for Model Runner V2 use it: they run as they are written.

vLLM's CPU build has no Triton, and no kernels of its own for Model Runner V2 (0.32.0). Where Triton is missing vLLM
decorates its kernels with a placeholder, which `install` makes do something: a launch runs the kernel's Python once for
each program of the grid, one after another. Masks, pointers and types are Triton's. What the language has beyond this
is missing by name, as an attribute of the placeholder.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ascend_serve.emulated.philox import rand, randint, randint4x

_LAUNCH_OPTIONS = frozenset({"num_warps", "num_stages", "num_ctas"})
"""How a device runs a kernel; no arguments of it."""

_ADDRESSES = 1 << 46
"""Bytes that a pointer of unknown extent may reach."""


class Block(np.ndarray[Any, Any]):
    """A value of the language: numbers of one type, or a single one."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Block:
        return np.asarray(array).view(Block)

    def to(self, dtype: Any) -> Block:
        """The same numbers in another type."""
        return np.asarray(self).astype(dtype).view(Block)


# Augmented assignments bind a name anew; those of an array would change it under its other names.
for _operator in ("add", "sub", "mul", "truediv", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"):
    setattr(Block, f"__i{_operator}__", getattr(np.ndarray, f"__{_operator}__"))


def _block(value: Any) -> Block:
    return np.asarray(value).view(Block)


class Pointer:
    """A place in memory, or a block of places.

    Args:
        memory: Numbers of one type, from the beginning of what they lie in.
        offset: Index in it.
        is_bfloat16: Whether they are bfloat16, which NumPy does not have, in 16 bits each.
    """

    __slots__ = ("is_bfloat16", "memory", "offset")

    def __init__(self, memory: np.ndarray[Any, Any], offset: Any, *, is_bfloat16: bool = False) -> None:
        self.memory = memory
        self.offset = offset
        self.is_bfloat16 = is_bfloat16

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Pointer:
        """Where a tensor begins. All of its storage can be reached, since strides are arguments of their own."""
        is_bfloat16 = tensor.dtype is torch.bfloat16
        length = tensor.untyped_storage().nbytes() // tensor.element_size()
        flat = tensor.detach().as_strided((length,), (1,), 0)
        memory = (flat.view(torch.uint16) if is_bfloat16 else flat).numpy()
        return cls(memory, tensor.storage_offset(), is_bfloat16=is_bfloat16)

    @classmethod
    def at(cls, address: int, dtype: Any) -> Pointer:
        """The place with an address; nobody knows how much lies behind it."""
        shape = (_ADDRESSES // dtype.itemsize,)
        place = {"data": (address, False), "shape": shape, "typestr": dtype.str, "version": 3}
        return cls(np.asarray(SimpleNamespace(__array_interface__=place)), 0)

    def __add__(self, places: Any) -> Pointer:
        return Pointer(self.memory, self.offset + places, is_bfloat16=self.is_bfloat16)

    __radd__ = __add__

    def __sub__(self, places: Any) -> Pointer:
        return self + (-places)


def load(pointer: Pointer, mask: Any = None, other: Any = 0, **_hints: Any) -> Block:
    """Read; ``other`` where the mask is off."""
    memory, offset = pointer.memory, pointer.offset
    if mask is None:
        return _loaded(pointer, memory[offset])
    offset, mask = np.broadcast_arrays(offset, mask)
    if not memory.size:
        return _block(np.full(offset.shape, other, dtype=memory.dtype))
    value = _loaded(pointer, memory[np.where(mask, offset, 0)])
    return _block(np.where(mask, value, np.asarray(other).astype(value.dtype)))


def _loaded(pointer: Pointer, value: Any) -> Block:
    if pointer.is_bfloat16:
        value = (np.asarray(value).astype(np.uint32) << 16).view(np.float32)
    return _block(value)


def store(pointer: Pointer, value: Any, mask: Any = None, **_hints: Any) -> None:
    """Write where the mask is on."""
    if pointer.is_bfloat16:
        single = torch.from_numpy(np.array(value, dtype=np.float32))
        value = single.to(torch.bfloat16).view(torch.uint16).numpy()
    if mask is None:
        pointer.memory[pointer.offset] = value
        return
    offset, value, mask = np.broadcast_arrays(pointer.offset, value, mask)
    pointer.memory[offset[mask]] = value[mask]


def atomic_add(pointer: Pointer, value: Any, mask: Any = True, **_hints: Any) -> None:
    """Add in place; programs run one after another, so nothing else can be in between."""
    _change(np.add, pointer, value, mask)


def atomic_or(pointer: Pointer, value: Any, mask: Any = True, **_hints: Any) -> None:
    """Or in place."""
    _change(np.bitwise_or, pointer, value, mask)


def _change(function: np.ufunc, pointer: Pointer, value: Any, mask: Any) -> None:
    """Change what is in memory, the same place several times where it is meant several times."""
    places, value, mask = np.broadcast_arrays(pointer.offset, value, mask)
    places = np.asarray(places[mask])
    if places.size:
        # Of memory that reaches as far as addresses do, which all other arrays are in, NumPy would make a copy.
        first = int(places.min())
        memory = pointer.memory[first : int(places.max()) + 1]
        function.at(memory, places - first, np.asarray(value[mask]).astype(memory.dtype))


class _Programs:
    """Which program of which grid runs now."""

    index: tuple[int, ...] = (0, 0, 0)
    grid: tuple[int, ...] = (1, 1, 1)


def program_id(axis: int) -> Block:
    """Which program this is, along one axis of the grid."""
    return _block(np.int32(_Programs.index[axis]))


def num_programs(axis: int) -> int:
    """Programs along one axis of the grid."""
    return _Programs.grid[axis]


def cast(value: Any, dtype: Any, **_hints: Any) -> Any:
    """Another type; of an address a pointer."""
    if isinstance(dtype, PointerType):
        return Pointer.at(int(value), dtype.element_ty)
    return _block(value).to(dtype)


class PointerType:
    """The type of a pointer.

    Args:
        element_ty: Of what it points to.
    """

    def __init__(self, element_ty: Any) -> None:
        self.element_ty = element_ty


def _reduced(function: Callable[..., Any], keep: bool) -> Callable[..., Any]:
    def reduce(value: Any, axis: int | None = None, *, return_indices: bool = False, **_hints: Any) -> Any:
        array = np.asarray(value)
        options = {} if keep else {"dtype": np.int32 if array.dtype == np.bool_ else array.dtype}
        result = _block(function(array, axis=axis, **options))
        if not return_indices:
            return result
        first = np.argmax(array == np.expand_dims(result, axis or 0), axis=axis)
        return result, _block(first.astype(np.int32))

    return reduce


def _index_of(function: Callable[..., Any]) -> Callable[..., Block]:
    return lambda value, axis=None, **_hints: _block(function(np.asarray(value), axis=axis).astype(np.int32))


def _lifted(function: Callable[..., Any]) -> Callable[..., Block]:
    return lambda *values, **_hints: _block(function(*values))


def _interleave(first: Any, second: Any) -> Block:
    return _block(np.stack(np.broadcast_arrays(first, second), axis=-1).reshape(*np.shape(first)[:-1], -1))


def _same(value: Any, *_hints: Any) -> Any:
    return value


def _nothing(*_hints: Any) -> None:
    return None


def _loop(*bounds: Any, **_hints: Any) -> range:
    return range(*(int(bound) for bound in bounds))


LANGUAGE: Mapping[str, Any] = {
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    # A block of bfloat16 holds its numbers in float32; they are rounded when they are stored.
    "bfloat16": np.dtype(np.float32),
    "int1": np.dtype(np.bool_),
    "constexpr": _same,
    "pointer_type": PointerType,
    "load": load,
    "store": store,
    "atomic_add": atomic_add,
    "atomic_or": atomic_or,
    "program_id": program_id,
    "num_programs": num_programs,
    "cast": cast,
    "arange": lambda start, end: _block(np.arange(start, end, dtype=np.int32)),
    "full": lambda shape, value, dtype: _block(np.full(shape, value, dtype=dtype)),
    "zeros": lambda shape, dtype: _block(np.zeros(shape, dtype=dtype)),
    "zeros_like": lambda value: _block(np.zeros_like(np.asarray(value))),
    "where": _lifted(np.where),
    "maximum": _lifted(np.maximum),
    "minimum": _lifted(np.minimum),
    "exp": _lifted(np.exp),
    "log": _lifted(np.log),
    "mul": _lifted(np.multiply),
    "div_rn": _lifted(np.divide),
    "sigmoid": _lifted(lambda value: 1 / (1 + np.exp(-value))),
    "sum": _reduced(np.sum, keep=False),
    "cumsum": _reduced(np.cumsum, keep=False),
    "max": _reduced(np.max, keep=True),
    "min": _reduced(np.min, keep=True),
    "argmax": _index_of(np.argmax),
    "argmin": _index_of(np.argmin),
    "reshape": lambda value, *shape: _block(np.reshape(np.asarray(value), shape[0] if len(shape) == 1 else shape)),
    "interleave": _interleave,
    "gather": lambda value, index, axis: _block(np.take_along_axis(np.asarray(value), np.asarray(index), axis)),
    "rand": _lifted(rand),
    "randint": _lifted(randint),
    "randint4x": lambda seed, offset: tuple(_block(word) for word in randint4x(seed, offset)),
    # NumPy's maximum lets no NaN go, which is what ALL asks for.
    "PropagateNan": SimpleNamespace(ALL=None),
    "range": _loop,
    "static_range": _loop,
    "static_assert": _nothing,
    "debug_barrier": _nothing,
    "multiple_of": _same,
    "cdiv": lambda value, divisor: -(-value // divisor),
}
"""``triton.language`` by name."""

LIBRARY: Mapping[str, Any] = {"log1p": _lifted(np.log1p)}
"""``triton.language.extra.libdevice`` by name."""


class Kernel:
    """A kernel that runs on the host.

    Args:
        function: Its Python.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it as a part of another kernel."""
        return self._function(*args, **kwargs)

    def __getitem__(self, grid: Sequence[Any]) -> Callable[..., None]:
        """How it is launched on a grid."""
        return functools.partial(self._launch, tuple(int(size) for size in grid))

    def _launch(self, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
        placed = [self._argument(value) for value in args]
        named = {name: self._argument(value) for name, value in kwargs.items() if name not in _LAUNCH_OPTIONS}
        # Unsigned numbers wrap, and logarithms of what a mask leaves out may be of nothing.
        with np.errstate(all="ignore"):
            for index in np.ndindex(*grid):
                _Programs.index, _Programs.grid = index, grid
                self._function(*placed, **named)

    def _argument(self, value: Any) -> Any:
        return Pointer.of(value) if isinstance(value, torch.Tensor) else value


def jit(function: Callable[..., Any] | None = None, **_options: Any) -> Any:
    """``triton.jit``, with and without options."""
    return jit if function is None else Kernel(function)


HOST: Mapping[str, Any] = {
    "jit": jit,
    "next_power_of_2": lambda value: 1 << max(0, math.ceil(math.log2(value))),
}
"""``triton`` by name."""


def install() -> None:
    """Let kernels that vLLM defines from here on run on the host; its Model Runner V2 must not be imported yet."""
    from vllm.triton_utils import tl, tldevice, triton

    for module, names in ((triton, HOST), (tl, LANGUAGE), (tldevice, LIBRARY)):
        for name, value in names.items():
            setattr(module, name, value)

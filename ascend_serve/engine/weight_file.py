"""The weights of one rank in a file without a name, in memory alone: gone with the last process that has it open.

The file is a header, the tensors of each model that was loaded (a target, then its draft model), aligned, and an index.
The header is written last and the file then sealed, so that who finds one finds it whole.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from ascend_serve.engine.weight_source import WeightSource

_NAME = "ascend_serve-weights"
_HEADER = struct.Struct("<8sQQ")
_MAGIC = b"ascwgt01"
_ALIGNMENT = 64
"""Bytes: of a cache line, and more than any type of numbers asks for."""
_MOST_AT_ONCE = 1 << 30
"""Linux writes less than 2 GiB at once."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class HeldTensor(BaseModel):
    """One tensor.

    Attributes:
        dtype: Its type, as torch spells it.
        shape: Its shape.
        strides: Strides of the tensor that it was copied from; what is held is contiguous.
        offset: Where its bytes begin.
    """

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


class HeldModel(BaseModel):
    """What was loaded for one model.

    Attributes:
        identity: What it depends on, apart from files.
        files: Size and time of change in nanoseconds of the files that it was read from, by name.
        tensors: By name.
    """

    model_config = ConfigDict(frozen=True)

    identity: str
    files: Mapping[str, tuple[int, int]]
    tensors: Mapping[str, HeldTensor]


class _Index(BaseModel):
    token: str
    bytes: int
    models: tuple[HeldModel | None, ...]


class WeightWriter:
    """Writes such a file, model by model.

    Raises:
        OSError: The kernel gives no such file.
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._end = _HEADER.size
        self._bytes = 0
        self._models: list[HeldModel | None] = []

    def skip(self) -> None:
        """Go on to the next model: this one is not held."""
        self._models.append(None)

    def add(self, identity: str, files: Mapping[str, tuple[int, int]], tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the tensors of a model.

        Args:
            identity: As of `HeldModel`.
            files: As of `HeldModel`.
            tensors: By name; on any device, of any strides.

        Raises:
            OSError: There is no memory left.
        """
        held = {}
        for name, tensor in tensors.items():
            self._end += -self._end % _ALIGNMENT
            held[name] = described(tensor).model_copy(update={"offset": self._end})
            self._append(_bytes_of(tensor))
        self._models.append(HeldModel(identity=identity, files=dict(files), tensors=held))

    def finish(self) -> HeldWeights | None:
        """What is held now; ``None`` where that is nothing."""
        if not any(self._models):
            self.close()
            return None
        index = _Index(token=secrets.token_hex(8), bytes=self._bytes, models=tuple(self._models))
        text, begin = index.model_dump_json().encode(), self._end
        self._append(memoryview(text))
        os.pwrite(self._descriptor, _HEADER.pack(_MAGIC, begin, len(text)), 0)
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
        return HeldWeights(self._descriptor)

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._descriptor)

    def _append(self, data: memoryview) -> None:
        for begin in range(0, len(data), _MOST_AT_ONCE):
            part = data[begin : begin + _MOST_AT_ONCE]
            while part:
                written = os.pwrite(self._descriptor, part, self._end)
                self._end += written
                self._bytes += written
                part = part[written:]


class HeldWeights:
    """Such a file, whole.

    Args:
        descriptor: The file, which this owns from now on, also where it is none.

    Raises:
        ValueError: It is no such file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        try:
            self._index = _read_index(descriptor)
        except ValueError:
            self.close()
            raise

    @classmethod
    def of(cls, source: WeightSource) -> Self:
        """Open what another process of this node has open.

        The kernel (``proc(5)``) lets processes of one user do so in one PID namespace, whatever Yama's
        ``ptrace_scope`` says; not where one of them may not be read, as after a change of its user.

        Raises:
            OSError: The process is gone, or does not let this one.
            ValueError: It has another file there by now.
        """
        path = Path(f"/proc/{source.pid}/fd/{source.descriptor}")
        # A pipe would wait for its other end.
        if not os.readlink(path).startswith(f"/memfd:{_NAME}"):
            raise ValueError(f"{path} is another file by now")
        held = cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        if held._index.token != source.token:
            held.close()
            raise ValueError(f"{path} holds other weights by now")
        return held

    @property
    def source(self) -> WeightSource:
        """Where others of this node find it as long as this process is there."""
        return WeightSource(
            pid=os.getpid(), descriptor=self._descriptor, token=self._index.token, bytes=self._index.bytes
        )

    @property
    def models(self) -> tuple[HeldModel | None, ...]:
        """What is held of each model, in the order in which they are loaded; ``None`` where it is read from files."""
        return self._index.models

    def copy_to(self, tensors: Mapping[str, torch.Tensor], model: HeldModel) -> None:
        """Copy a model's tensors back.

        Args:
            tensors: Where to, by name; as described in ``model``, on any device.
            model: One of `models`.
        """
        mapping = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        with warnings.catch_warnings(), torch.no_grad():
            # Nobody writes into it.
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            for name, tensor in tensors.items():
                if tensor.numel():
                    tensor.copy_(_tensor(mapping, model.tensors[name]))

    def close(self) -> None:
        """Let go of it; once more is nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def described(tensor: torch.Tensor) -> HeldTensor:
    """What has to be equal of a tensor that is to take the place of another one."""
    return HeldTensor(dtype=str(tensor.dtype), shape=tuple(tensor.shape), strides=tensor.stride())


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    if not tensor.numel():
        return memoryview(b"")
    # Dimensions of one element keep whatever stride they have, also where all is contiguous.
    flat = tensor.detach().cpu().contiguous().as_strided((tensor.numel(),), (1,))
    return memoryview(flat.view(torch.uint8).numpy())


def _tensor(mapping: mmap.mmap, held: HeldTensor) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, held.dtype.removeprefix("torch."))
    count = torch.Size(held.shape).numel()
    size = count * torch.empty(0, dtype=dtype).element_size()
    flat = torch.frombuffer(mapping, dtype=torch.uint8, count=size, offset=held.offset)
    return flat.view(dtype).view(held.shape)


def _read_index(descriptor: int) -> _Index:
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ValueError("no weights are held in this file")
    _, begin, size = _HEADER.unpack(header)
    try:
        return _Index.model_validate_json(os.pread(descriptor, size, begin))
    except ValidationError as error:
        raise ValueError("the index of the weights that are held cannot be read") from error

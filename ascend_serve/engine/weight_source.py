"""Where the weights of a rank are held: what executor, replica and spares tell each other of them. Imports no vLLM."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class WeightSource(BaseModel):
    """A file in the memory of a node, open in the worker process of a rank.

    Attributes:
        pid: The process.
        descriptor: The file there.
        token: What the file says it is: another process may have got the number since.
        bytes: Size of the weights.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    descriptor: int
    token: str
    bytes: int


class RankWeights(BaseModel):
    """What a rank tells of its weights.

    Attributes:
        bundle: Index of its bundle in the placement group.
        source: Where they are held; ``None`` where they are not.
        from_host: Whether it copied them from the memory of its host.
    """

    model_config = ConfigDict(frozen=True)

    bundle: int = -1
    source: WeightSource | None = None
    from_host: bool = False

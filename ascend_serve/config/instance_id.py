"""What an engine's instance id says: the capture group and the incarnation of its workers.

Both differ from start to start, so they must not be in ``additional_config``, which vLLM hashes into the name of its
compile cache; the instance id is not hashed (0.23.0 and 0.32.0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARTS = re.compile(r"(?P<group>.+?)(?:-r(?P<first>\d+))?(?P<engine>_dp\d+)?(?:-r(?P<later>\d+))?")


@dataclass(frozen=True, slots=True)
class InstanceId:
    """An instance id in its parts.

    Attributes:
        group: Name of the capture group; unique per start.
        engine: ``_dp<rank>``, as vLLM's Ray data-parallel backend appends it; empty for a single engine.
        incarnation: How many sets of workers the group had before.
    """

    group: str
    engine: str = ""
    incarnation: int = 0

    @classmethod
    def parse(cls, text: str) -> InstanceId:
        """Read an instance id.

        Raises:
            ValueError: It is empty.
        """
        found = _PARTS.fullmatch(text)
        if found is None:
            raise ValueError("an instance id is not empty")
        return cls(found["group"], found["engine"] or "", int(found["later"] or found["first"] or 0))

    def __str__(self) -> str:
        return f"{self.group}{self.engine}" + (f"-r{self.incarnation}" if self.incarnation else "")

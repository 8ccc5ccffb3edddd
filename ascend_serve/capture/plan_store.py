"""Memory of what worked: sealed plans on disk, by fingerprint.

A fingerprint covers model, parallel layout, versions, hardware and the request, so a plan is never used for anything
else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ascend_serve.cache import cache_folder
from ascend_serve.graph.plan import CapturePlan

logger = logging.getLogger(__name__)

_PLAN = TypeAdapter(CapturePlan)


def default_directory() -> Path:
    """Where plans are kept: ``ascend_serve/plans`` in the user's cache folder."""
    return cache_folder() / "plans"


def fingerprint_digest(fingerprint: Mapping[str, str]) -> str:
    """A file name for a fingerprint: equal exactly when all its entries are."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PlanStore:
    """A folder with one JSON file per fingerprint.

    Attributes:
        directory: The folder; made when the first plan is kept.
    """

    directory: Path

    def load(self, digest: str) -> CapturePlan | None:
        """Get the plan kept under ``digest``; a file that cannot be read counts as none, with a warning."""
        path = self._path(digest)
        try:
            return _PLAN.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("Ignoring the remembered plan %s: %s", path, error)
            return None

    def save(self, digest: str, plan: CapturePlan) -> None:
        """Keep ``plan``. Written aside and renamed, so that a reader never sees half of it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        draft = self._path(digest).with_suffix(f".{os.getpid()}")
        draft.write_bytes(_PLAN.dump_json(plan, indent=2))
        draft.replace(self._path(digest))

    def forget(self) -> int:
        """Delete all plans; returns how many there were."""
        paths = list(self.directory.glob("*.json"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def _path(self, digest: str) -> Path:
        return self.directory / f"{digest}.json"

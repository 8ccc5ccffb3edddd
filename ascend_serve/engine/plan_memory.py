"""The plan that worked for exactly this deployment, recalled at the next start."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ascend_serve.capture.plan_store import PlanStore, fingerprint_digest
from ascend_serve.engine.fingerprint import plan_fingerprint
from ascend_serve.engine.group_settings import GroupSettings
from ascend_serve.engine.runtimes.loading import Offers
from ascend_serve.graph.plan import CapturePlan, GraphRequest

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlanMemory:
    """The plan store, looked at through the fingerprint of one deployment.

    Attributes:
        store: Where plans are kept, or ``None`` where nothing is to be remembered.
        digest: The fingerprint's file name.
        keeps: Whether this engine keeps the plan for the whole group.
    """

    store: PlanStore | None
    digest: str = ""
    keeps: bool = False

    @classmethod
    def of(cls, vllm_config: VllmConfig, settings: GroupSettings, request: GraphRequest, offers: Offers) -> PlanMemory:
        """Open the memory of this deployment; the first engine of a group keeps the plan for all."""
        if settings.plan_directory is None:
            return cls(None)
        digest = fingerprint_digest(plan_fingerprint(vllm_config, settings, request, offers))
        is_first = vllm_config.parallel_config.data_parallel_index == 0
        return cls(PlanStore(Path(settings.plan_directory)), digest, is_first)

    def recall(self) -> CapturePlan | None:
        """The plan that worked at an earlier start, if there is one."""
        return None if self.store is None else self.store.load(self.digest)

    def keep(self, plan: CapturePlan | None) -> None:
        """Keep a sealed plan that replays something; a folder that cannot be written costs the memory, not the start.

        The errors that end in eager may have been a chance: the next start may try again.
        """
        if self.store is None or not self.keeps or plan is None or plan.is_eager:
            return
        try:
            self.store.save(self.digest, plan)
        except OSError as error:
            logger.warning("The plan that worked could not be kept in %s: %s", self.store.directory, error)

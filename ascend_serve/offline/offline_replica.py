"""The process that runs the engine for offline generation: a replica without a port."""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict
from ray.util.placement_group import PlacementGroup

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.openai_engine import OpenAIEngine
from ascend_serve.telemetry.report import GraphReport


class Answer(BaseModel):
    """What came of one request.

    Attributes:
        text: What the model said; empty where there is an error.
        finish_reason: Why it stopped.
        response: The whole answer of the OpenAI API; ``None`` where there is an error.
        error: Why there is no answer.
    """

    model_config = ConfigDict(frozen=True)

    text: str = ""
    finish_reason: str | None = None
    response: dict[str, Any] | None = None
    error: str | None = None


class OfflineReplica:
    """A Ray actor that answers requests as the OpenAI application of a served replica would."""

    async def start(
        self, config: AscendServeConfig, plan: DeploymentPlan, group: str, placement_group: PlacementGroup | None
    ) -> None:
        """Bring the engine up; see `OpenAIEngine.start`."""
        self._engine = await OpenAIEngine.start(config, plan, group, placement_group=placement_group)
        transport = httpx.ASGITransport(self._engine.app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None)

    async def answer(self, body: dict[str, Any]) -> Answer:
        """Answer the body of a completions or chat request; what is wrong with it comes back as `Answer.error`."""
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        response = await self._client.post(path, json={**body, "stream": False})
        content = response.json()
        if response.is_error:
            return Answer(error=content.get("error", {}).get("message") or response.text)
        choice = content["choices"][0]
        text = choice["message"].get("content") if "message" in choice else choice["text"]
        return Answer(text=text or "", finish_reason=choice["finish_reason"], response=content)

    async def report(self) -> GraphReport:
        """What ``GET /graph/report`` answers."""
        return await self._engine.report()

    def shutdown(self) -> None:
        """End the engine core and its workers."""
        self._engine.shutdown()

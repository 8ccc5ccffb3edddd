"""The process that runs the engine for offline generation: a replica without a port."""

from __future__ import annotations

from typing import Any, Self

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
        text: What the model said, in the first of the choices; empty where there is an error, or nothing to say.
        finish_reason: Why it stopped.
        response: The whole answer of the OpenAI API, with all choices; ``None`` where there is an error.
        error: Why there is no answer.
        status: HTTP's status of the answer.
        refusal: The body of the answer where there is an error.
    """

    model_config = ConfigDict(frozen=True)

    text: str = ""
    finish_reason: str | None = None
    response: dict[str, Any] | None = None
    error: str | None = None
    status: int = 200
    refusal: dict[str, Any] | None = None

    @classmethod
    def of(cls, status: int, content: dict[str, Any]) -> Self:
        """Make it from what the API answered.

        Args:
            status: HTTP's status.
            content: The body.
        """
        if status >= _FIRST_ERROR:
            told = content.get("error") or content.get("detail")
            message = told.get("message") if isinstance(told, dict) else told
            return cls(error=str(message or content), status=status, refusal=content)
        choice: dict[str, Any] = next(iter(content.get("choices") or ()), {})
        text = choice["message"].get("content") if "message" in choice else choice.get("text")
        return cls(text=text or "", finish_reason=choice.get("finish_reason"), response=content, status=status)


_FIRST_ERROR = 400


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = {"error": {"message": response.text}}
    return content if isinstance(content, dict) else {"data": content}


class OfflineReplica:
    """A Ray actor that answers requests as the OpenAI application of a served replica would."""

    async def start(
        self, config: AscendServeConfig, plan: DeploymentPlan, group: str, placement_group: PlacementGroup | None
    ) -> None:
        """Bring the engine up; see `OpenAIEngine.start`."""
        self._engine = await OpenAIEngine.start(config, plan, group, placement_group=placement_group)
        transport = httpx.ASGITransport(self._engine.app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=None)

    async def answer(self, path: str, body: dict[str, Any]) -> Answer:
        """Answer the body of a request; what is wrong with it comes back as `Answer.error`.

        Args:
            path: Of the API, for example ``/v1/chat/completions``.
            body: As a client would send it; it is not streamed.
        """
        if body.get("stream"):
            body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
        response = await self._client.post(path, json=body)
        return Answer.of(response.status_code, _content(response))

    async def report(self) -> GraphReport:
        """What ``GET /graph/report`` answers."""
        return await self._engine.report()

    def shutdown(self) -> None:
        """End the engine core and its workers."""
        self._engine.shutdown()

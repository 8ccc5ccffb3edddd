"""The server that is measured: the name of its model, where its tokenizer is, what its ranks hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from ascend_serve.errors import ClusterError, ConfigError
from ascend_serve.telemetry.report import GraphReport

_ANSWER_SECONDS = 60.0
_ADDRESS = "Give the address that the server printed, for example http://127.0.0.1:8000."


@dataclass(frozen=True)
class ServedModel:
    """A model as ``GET /v1/models`` names it.

    Attributes:
        name: What requests call it.
        root: Folder or name that it was loaded from.
        max_tokens: Tokens of a request with its answer; ``None`` where the server does not say.
    """

    name: str
    root: str
    max_tokens: int | None = None


@dataclass(frozen=True)
class Server:
    """A server with the OpenAI API.

    Attributes:
        url: Its address, without a slash at the end.
        key: API key; empty where it asks for none.
        transport: Another way there than the network.
    """

    url: str
    key: str = field(default="", repr=False)
    transport: httpx.BaseTransport | None = None

    def model(self, name: str | None = None) -> ServedModel:
        """The model that it serves.

        Args:
            name: Which one; the first where it is not given.

        Raises:
            ClusterError: Nothing answers there, or no server with the OpenAI API.
            ConfigError: The key is missing or wrong, or it serves no such model.
        """
        answer = self._get("/v1/models")
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            problem = f"{self.url} refuses the API key" if self.key else f"{self.url} asks for an API key"
            raise ConfigError(problem, "Give its file with --api-key-file, or set VLLM_API_KEY.")
        models = _served_models(self.url, answer)
        chosen = [model for model in models if name in (None, model.name)]
        if not chosen:
            names = ", ".join(model.name for model in models)
            raise ConfigError(f"--model: {self.url} serves no {name!r}", f"It serves: {names or 'nothing'}.")
        return chosen[0]

    def report(self) -> GraphReport | None:
        """What its ranks hold; ``None`` where it is no deployment of ours."""
        answer = self._get("/graph/report")
        try:
            return GraphReport.model_validate_json(answer.content) if answer.is_success else None
        except ValueError:
            return None

    def _get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            with httpx.Client(headers=headers, timeout=_ANSWER_SECONDS, transport=self.transport) as client:
                return client.get(self.url + path)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ClusterError(f"Nothing answers at {self.url}{path}: {error}", _ADDRESS) from error


def _served_models(url: str, answer: httpx.Response) -> list[ServedModel]:
    if not answer.is_success:
        raise ClusterError(f"{url}/v1/models answers {answer.status_code}: {answer.text[:200]}", _ADDRESS)
    try:
        return [_served_model(entry) for entry in answer.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"What answers at {url} is not a server with the OpenAI API", _ADDRESS) from error


def _served_model(entry: dict[str, Any]) -> ServedModel:
    return ServedModel(entry["id"], entry.get("root") or entry["id"], entry.get("max_model_len"))

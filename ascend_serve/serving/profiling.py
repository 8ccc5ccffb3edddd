"""Profiling a running deployment over HTTP: vLLM's ``/start_profile`` and ``/stop_profile`` (0.23.0 and 0.32.0)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from ascend_serve.errors import AscendServeError, ClusterError, ConfigError
from ascend_serve.telemetry.report import GraphReport

API_KEY = "VLLM_API_KEY"
"""The environment variable with the key of the deployment, for the server as for its clients."""

ENABLE = "'vllm.profiler_config={profiler: torch, torch_profiler_dir: /tmp/profile}'"
"""What a deployment is started with so that it can be profiled."""

_ANSWER_SECONDS = 60.0
_REQUEST: dict[str, Any] = {"prompt": "profile", "max_tokens": 32, "ignore_eos": True, "temperature": 0.0}


class ProfiledServer:
    """A deployment as a client of its HTTP interface sees it; closed at the end of a ``with`` block.

    Args:
        url: Where it is reached, for example ``http://127.0.0.1:8000``.
        transport: Another way there than the network.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        key = os.environ.get(API_KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url.rstrip("/")
        self._client = httpx.Client(headers=headers, timeout=None, trust_env=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def report(self) -> GraphReport:
        """What the deployment says of itself.

        Raises:
            ClusterError: Nothing answers there, or something else.
            ConfigError: Its profiler is not enabled, or the key is missing or wrong.
        """
        answer = self._send("GET", "/graph/report", timeout=_ANSWER_SECONDS)
        try:
            report = GraphReport.model_validate_json(answer.content)
        except ValueError as error:
            raise _unknown_server(self._url) from error
        if not report.profiler_dir:
            raise ConfigError(
                f"The deployment at {self._url} cannot be profiled: vllm.profiler_config is not set",
                f"Start it with {ENABLE} after the configuration file.",
            )
        return report

    @contextmanager
    def profiled(self) -> Iterator[None]:
        """Let all ranks trace what they do inside of the ``with`` block; at its end they have written their traces.

        Raises:
            ClusterError: The ranks did not start or stop.
        """
        self._send("POST", "/start_profile")
        try:
            yield
        finally:
            self._send("POST", "/stop_profile")

    def ask(self) -> None:
        """Send one short request and wait for its answer.

        Raises:
            ClusterError: There is no answer.
        """
        self._send("POST", "/v1/completions", json=_REQUEST)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, self._url + path, **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ClusterError(
                f"Nothing answers at {self._url}{path}: {error}",
                "Give the address that `ascend-serve serve` printed, with --url.",
            ) from error
        if answer.is_error:
            raise self._refusal(path, answer)
        return answer

    def _refusal(self, path: str, answer: httpx.Response) -> AscendServeError:
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return ConfigError(f"{self._url}{path} refuses the key", f"Set {API_KEY} to the key of the deployment.")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return _unknown_server(self._url)
        if answer.status_code == httpx.codes.CONFLICT:
            return ClusterError(
                f"{self._url} is being profiled already",
                f"Wait for the other one, or end it with `curl -X POST {self._url}/stop_profile`.",
            )
        return ClusterError(f"{self._url}{path} answers {answer.status_code}: {answer.text}")


def _unknown_server(url: str) -> ClusterError:
    return ClusterError(
        f"What answers at {url} is not a deployment of ascend-serve",
        "Give the address that `ascend-serve serve` printed, with --url.",
    )

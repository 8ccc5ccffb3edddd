"""Ray Serve on its way up: replicas start while its proxies do.

``serve.start`` comes back when all proxies are ready, two seconds and more in which it can be asked for no replica.
That it is made of two halves is private (``ray/serve/_private/api.py``, 2.60.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import ObjectRef
from ray.serve._private.api import _create_controller_and_proxy_refs
from ray.serve.config import ControllerOptions
from ray.serve.schema import LoggingConfig

_PROXY_SECONDS = 60.0
"""How long proxies may take, as Serve has it (``HTTP_PROXY_TIMEOUT``)."""


def begin_serve(
    *, http_options: Mapping[str, Any], controller_options: Mapping[str, Any], logging_config: LoggingConfig
) -> Sequence[ObjectRef[Any]]:
    """Start Serve's controller, which takes applications from then on; arguments as of ``serve.start``.

    Returns:
        What `wait_for_proxies` waits for.

    Raises:
        RayError: The controller did not start.
    """
    _, proxies = _create_controller_and_proxy_refs(
        http_options=dict(http_options),
        grpc_options=None,
        global_logging_config=logging_config,
        global_tracing_config=None,
        controller_options=ControllerOptions.model_validate(controller_options),
    )
    return tuple(proxies)


def wait_for_proxies(proxies: Sequence[ObjectRef[Any]]) -> None:
    """Wait until they listen.

    Raises:
        RayError: One did not start.
        TimeoutError: One is not ready after a minute.
    """
    ray.get(list(proxies), timeout=_PROXY_SECONDS)

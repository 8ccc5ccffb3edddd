"""``serving.deployment`` and ``serving.http_options``: Ray Serve's own options, held against its own models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from ascend_serve.config.schema import ServingConfig
from ascend_serve.config.key_names import instead
from ascend_serve.errors import Problem

DEPLOYMENT = "OpenAIReplica"
"""Name of the deployment in each application."""

_PLACEMENT = "Leave it out: it follows from the section parallel and from the nodes."

SERVE_DECIDED_ELSEWHERE: Mapping[str, str] = {
    "deployment.name": f"Leave it out: it is {DEPLOYMENT}.",
    "deployment.ray_actor_options": _PLACEMENT,
    "deployment.placement_group_bundles": _PLACEMENT,
    "deployment.placement_group_strategy": _PLACEMENT,
    "deployment.placement_group_bundle_label_selector": _PLACEMENT,
    "deployment.max_replicas_per_node": _PLACEMENT,
    "deployment.gang_scheduling_config": "Leave it out: each replica has its NPUs in a placement group of its own.",
    "deployment.deployment_actors": "Leave it out: the driver of a capture group belongs to its replica.",
    "deployment.user_config": "Leave it out: a changed configuration is a new version of the application.",
    "http_options.host": "Set serving.host.",
    "http_options.port": "Set serving.port.",
    "http_options.ssl_keyfile_password": "Leave it out: a configuration is printed. Give the key file no password, and "
    "let nobody else read it.",
}
"""Keys below ``serving`` that our own sections decide, and what to do instead."""


def serve_option_problems(serving: ServingConfig) -> Iterator[Problem]:
    """What Ray Serve would not take or would ignore, each with what to do. Imports Serve where there is something."""
    if not serving.deployment and not serving.http_options:
        return
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import DeploymentSchema

    named = {"deployment": (DeploymentSchema, serving.deployment), "http_options": (HTTPOptions, serving.http_options)}
    for name, (model, options) in named.items():
        decided = {key for key in options if f"{name}.{key}" in SERVE_DECIDED_ELSEWHERE}
        for key in decided:
            yield f"serving.{name}.{key}: decided elsewhere", SERVE_DECIDED_ELSEWHERE[f"{name}.{key}"]
        rest = {key: value for key, value in options.items() if key not in decided}
        yield from _problems(model, rest, f"serving.{name}", {"name": DEPLOYMENT} if name == "deployment" else {})
    yield from _half_of_tls(serving.http_options)


def _half_of_tls(options: Mapping[str, Any]) -> Iterator[Problem]:
    """Serve 2.60 speaks plain HTTP when it has a certificate or a key alone, and checks it only for the former."""
    missing = {"ssl_keyfile", "ssl_certfile"} - options.keys()
    if missing and any(name.startswith("ssl_") for name in options):
        names = " and ".join(f"serving.http_options.{name}" for name in sorted(missing))
        yield f"serving.http_options: TLS without {names}", f"Set {names}, or no ssl_ option."


def _problems(
    model: type[BaseModel], options: Mapping[str, Any], key: str, required: Mapping[str, Any]
) -> Iterator[Problem]:
    """Unknown names, which most of Serve's models ignore, else what ``model`` says; sections first.

    Serve's own types let a plain mapping pass for a section, so each section is held against its model.
    """
    found = list(_unknown(model, options, key))
    for name, section in _sections(model, options):
        found += _problems(section, options[name], f"{key}.{name}", {})
    yield from found or _refused(model, {**options, **required}, key)


def _unknown(model: type[BaseModel], options: Mapping[str, Any], key: str) -> Iterator[Problem]:
    for name in options:
        if name not in model.model_fields:
            remedy = instead(str(name), [*model.model_fields], f"{key}.")
            yield f"{key}.{name}: not an option of Ray Serve's {model.__name__}", remedy


def _sections(model: type[BaseModel], options: Mapping[str, Any]) -> Iterator[tuple[str, type[BaseModel]]]:
    from ascend_serve.config.key_names import section_of

    for name, value in options.items():
        field = model.model_fields.get(name)
        section = section_of(field) if field is not None else None
        if section is not None and isinstance(value, Mapping):
            yield name, section


def _refused(model: type[BaseModel], options: Mapping[str, Any], key: str) -> Iterator[Problem]:
    try:
        model.model_validate(dict(options))
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            name = ".".join([key, *(str(part) for part in detail["loc"] if str(part) in model.model_fields)])
            yield (
                f"{name}: {detail['msg'].removeprefix('Value error, ')}",
                "Ray Serve's documentation says what is allowed.",
            )
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        # The classes that options name are imported by some of the models.
        yield f"{key}: {error}", "Ray Serve's documentation says what is allowed."

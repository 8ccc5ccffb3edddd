"""What can be found wrong before anything is started. Imports neither Ray nor vLLM."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from ascend_serve.config import AscendServeConfig
from ascend_serve.config.combinations import compiles_on_host
from ascend_serve.config.model_cache import is_model_id
from ascend_serve.config.schema import BUILT_IN_MODEL
from ascend_serve.doctor.model_formats import format_problems
from ascend_serve.errors import ConfigError, MachineError, ModelError, PortInUseError
from ascend_serve.node.finding import Status
from ascend_serve.node.machine import Need, examine_machine, machine_facts
from ascend_serve.node.model_download import HubModel, provide_model
from ascend_serve.node.model_files import check_model_files, model_facts
from ascend_serve.node.ports import free_port

logger = logging.getLogger(__name__)


def check_here(configs: Sequence[AscendServeConfig], *, given: bool) -> None:
    """Make sure that a start can work, as far as this machine can tell.

    Args:
        configs: What is to be started.
        given: Whether it runs on a cluster that is there already, which need not have nodes like this machine.

    Raises:
        MachineError: It cannot, with all problems at once.
        ModelError: It cannot, for want of a model alone.
    """
    for config in configs:
        check_built_in(config)
    models = [problem for config in configs for problem in _model_problems(config)]
    machine = [] if given else _machine_problems(configs)
    if machine:
        raise MachineError.of("this machine", [*models, *machine])
    if models:
        raise ModelError.of("model.path", models)


def check_model(config: AscendServeConfig) -> None:
    """Make sure that the model is one, and whole, as far as this machine can tell.

    Raises:
        ModelError: It is not, with all problems at once.
    """
    check_built_in(config)
    problems = list(_model_problems(config))
    if problems:
        raise ModelError.of("model.path", problems)


def fetched(config: AscendServeConfig) -> AscendServeConfig:
    """The configuration with the folder of its model, which is downloaded where it has an id and is not whole here.

    Raises:
        ModelError: It cannot be downloaded, or what has been downloaded cannot be served.
    """
    if config.model.is_built_in:
        return config
    folder = provide_model(config.model.path, config.vllm.get("revision"))
    if folder == config.model.path:
        return config
    model = config.model.model_copy(update={"path": folder, "served_name": config.model.name})
    config = config.model_copy(update={"model": model})
    check_model(config)
    return config


def _machine_problems(configs: Sequence[AscendServeConfig]) -> list[tuple[str, str]]:
    ranks = sum(config.parallel.world_size for config in configs)
    need = Need(ranks, compiles=any(compiles_on_host(config) for config in configs), local=True)
    found = examine_machine(machine_facts(), need)
    for finding in found:
        if finding.status is Status.WARN:
            logger.warning("%s; %s", finding.text, finding.fix)
    return [(finding.text, finding.fix) for finding in found if finding.status is Status.FAIL]


def _model_problems(config: AscendServeConfig) -> Iterator[tuple[str, str]]:
    if config.model.is_built_in:
        yield from format_problems(config, None)
        return
    hub = HubModel.at(config.model.path)
    if hub is not None and not hub.is_whole():
        return  # It is downloaded, or refused, when it is needed.
    facts = model_facts(str(Path(config.model.path).absolute()))
    finding = check_model_files(facts)
    if finding.status is Status.FAIL:
        yield f"model.path: {finding.text}", finding.fix if facts.is_model else _MODEL_REMEDY
    elif facts.is_model:
        yield from format_problems(config, Path(config.model.path))
    yield from _files_beside(config)


_JINJA = "{}\n"
"""What makes vLLM take a text for a template, not for a path (``load_chat_template``, 0.23.0 and 0.32.0)."""


def _files_beside(config: AscendServeConfig) -> Iterator[tuple[str, str]]:
    """The files and folders of a model that may be elsewhere."""
    tokenizer, template = config.vllm.get("tokenizer"), config.vllm.get("chat_template")
    folder = config.vllm.get("hf_config_path")
    if isinstance(folder, str) and folder and not os.path.exists(folder) and not is_model_id(folder):
        yield f"vllm.hf_config_path: {folder} does not exist", "Give a folder with a config.json, or leave it out."
    if isinstance(tokenizer, str) and not os.path.exists(tokenizer) and not is_model_id(tokenizer):
        yield f"vllm.tokenizer: {tokenizer} does not exist", "Give a folder with a tokenizer, or leave it out."
    if isinstance(template, str) and not os.path.exists(template) and not set(_JINJA) & set(template):
        yield (
            f"vllm.chat_template: {template} does not exist, and is no template itself",
            "Give the path of a Jinja2 file, or the template.",
        )


_MODEL_REMEDY = (
    "Set model.path to a folder with config.json, tokenizer and safetensors. Relative paths start at the current "
    f"directory; model.path={BUILT_IN_MODEL} is a small model for emulated NPUs that needs no folder."
)


def check_built_in(config: AscendServeConfig) -> None:
    """Make sure that the built-in model is asked for on emulated NPUs alone.

    Raises:
        ModelError: It is not.
    """
    if config.model.is_built_in and not config.emulated.npus:
        raise ModelError(
            f"model.path: {BUILT_IN_MODEL} is the small model of the emulated NPU, and emulated.npus is 0",
            f"Set emulated.npus={config.parallel.world_size}, or model.path to the folder of a model "
            f"(./{BUILT_IN_MODEL} where it has that name).",
        )


def check_port(host: str, port: int) -> None:
    """Make sure that a server can listen on ``host:port``.

    Raises:
        PortInUseError: It cannot, with the reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        problem = f"Cannot listen on serving.host {host}, serving.port {port}: {error.strerror or error}"
        raise PortInUseError(problem, _where_to_listen(error, host, port)) from error


def _where_to_listen(error: OSError, host: str, port: int) -> str:
    """What to do about an address that cannot be listened on: the address, the port or the right may be missing."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Choose another port, for example serving.port={_free_port(host)}, or stop what listens there "
            f"(`ss -ltnp sport = :{port}` names it)."
        )
    if isinstance(error, PermissionError):
        return f"Ports below 1024 are for root: set serving.port={_free_port(host)}, for example."
    return (
        "serving.host is an address of this machine (`ip -brief address` lists them): 127.0.0.1 for clients here, "
        "0.0.0.0 for those of all networks."
    )


_SERVERS_OWN = ("host", "port", "ingress", "http_options")
"""Keys of the section ``serving`` that belong to the server, not to one of its models."""


def behind_one_server(configs: Sequence[AscendServeConfig]) -> list[AscendServeConfig]:
    """Let several models share one server: what one of them says about it holds for all.

    Raises:
        ConfigError: Two of them contradict each other, or cannot be told apart.
    """
    problems = [*_contradictions(configs), *_not_told_apart(configs)]
    if problems:
        raise ConfigError.of("the configurations", problems)
    said = {
        key: getattr(config.serving, key)
        for config in configs
        for key in _SERVERS_OWN
        if key in config.serving.model_fields_set
    }
    return [config.model_copy(update={"serving": config.serving.model_copy(update=said)}) for config in configs]


def _contradictions(configs: Sequence[AscendServeConfig]) -> Iterator[tuple[str, str]]:
    for key in _SERVERS_OWN:
        said = [getattr(config.serving, key) for config in configs if key in config.serving.model_fields_set]
        different = [value for value in said if value != said[0]]
        if different:
            yield f"serving.{key}: {said[0]} and {different[0]}; the models share one server", "Set it for one of them."
    if len({config.emulated.npus > 0 for config in configs}) > 1:
        yield "emulated.npus: 0 for some models only", "Serve all of them on emulated NPUs, or none."


def _not_told_apart(configs: Sequence[AscendServeConfig]) -> Iterator[tuple[str, str]]:
    names = [config.model.name for config in configs]
    prefixes = [config.serving.route_prefix for config in configs]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"model.served_name: {name} is the name of several models", "Give each its own model.served_name."
    for prefix in sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1}):
        sharing = [name for name, own in zip(names, prefixes, strict=True) if own == prefix]
        yield (
            f"serving.route_prefix: {prefix} is the prefix of {' and '.join(sharing)}",
            f"Give each its own, for example serving.route_prefix=/{sharing[-1]} after the last file.",
        )


def _free_port(host: str) -> int:
    with contextlib.suppress(OSError):
        return free_port(host)
    return 8001

"""The gate: what a start would refuse for reasons that are known beforehand, for commands that start nothing."""

from __future__ import annotations

import os
from pathlib import Path

from ascend_serve.api.api_keys import api_keys
from ascend_serve.config import AscendServeConfig
from ascend_serve.doctor.preflight import check_model
from ascend_serve.planning import plan_deployment


def check_before_start(config: AscendServeConfig) -> None:
    """Refuse what `serve` refuses of a configuration and of a model's folder, by the very checks that it makes.

    A folder that is not here is no reason: the model may be on other machines.

    Raises:
        ConfigError: The file with API keys cannot be read.
        ModelError: The model's folder is not whole, or the built-in model is asked for on NPUs.
    """
    api_keys(config.serving.api_key_file)
    if config.model.is_built_in or _is_here(config):
        check_model(config)


def check_plan(config: AscendServeConfig) -> None:
    """As `check_before_start`, and what planning refuses, where the model is known and no cluster is given.

    Raises:
        ConfigError: The model cannot do what is asked.
        ModelError: The model cannot be read.
        PlanError: The deployment cannot work.
    """
    check_before_start(config)
    if not os.environ.get("RAY_ADDRESS") and (config.model.is_built_in or _is_here(config)):
        plan_deployment(config)


def _is_here(config: AscendServeConfig) -> bool:
    return Path(config.model.path).exists()

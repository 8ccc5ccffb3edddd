"""Planning knows the model runner that will run: the environment's, else the one of the release."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.planning import situation
from ascend_serve.planning.model_config import read_card
from ascend_serve.planning.settings import read_settings
from ascend_serve.releases import RELEASES, ModelRunner

CONFIG = AscendServeConfig.model_validate({"model": {"path": "Qwen3-0.6B"}})


@pytest.mark.parametrize(
    ("of_release", "said", "runs"),
    [
        pytest.param(ModelRunner.V1, None, False, id="the first one, by the release"),
        pytest.param(ModelRunner.V1, "1", True, id="the second one is asked for"),
        pytest.param(ModelRunner.V2, None, True, id="the second one, by the release"),
        pytest.param(ModelRunner.V2, "0", False, id="the first one is asked for"),
    ],
)
def test_the_environment_goes_before_the_release(
    of_release: ModelRunner, said: str | None, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(situation, "nearest", lambda installed: replace(RELEASES[-1], runner=of_release))
    environment = {} if said is None else {"VLLM_USE_V2_MODEL_RUNNER": said}
    found = situation.situation_of(CONFIG, read_card("Qwen3-32B"), read_settings({}), environment)
    assert found.v2_model_runner is runs

"""The model that vllm-ascend runs, and what it has to answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.npu.start import PROMPTS, TOKENS

LAYERS = 2


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ascend_serve.emulated.demo_model import make_demo_model

    return make_demo_model(tmp_path_factory.mktemp("model") / "qwen3", layers=LAYERS)


@pytest.fixture(scope="session")
def expected(model: Path) -> list[list[int]]:
    """Greedy tokens of every prompt, by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    told = []
    for prompt in PROMPTS:
        given = tokenizer(prompt, return_tensors="pt")
        answer = network.generate(**given, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
        told.append(answer[0, given.input_ids.shape[1] :].tolist())
    return told

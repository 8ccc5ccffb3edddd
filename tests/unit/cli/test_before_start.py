"""Plan and config refuse what serve would refuse, in the same words."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ascend_serve.cli.main import app
from ascend_serve.errors import AscendServeError

MODEL = {
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def said(command: str, folder: Path, overrides: list[str]) -> str:
    """What a command answers a configuration with: the words of its refusal, or nothing."""
    result = CliRunner().invoke(app, [command, str(folder), *overrides])
    if result.exception is None:
        return ""
    assert isinstance(result.exception, AscendServeError), result.exception
    return str(result.exception)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        pytest.param("parallel.tensor_parallel_size=3", "does not divide the model's 8 attention heads", id="heads"),
        pytest.param("vllm.max_model_len=2049", "2049 is more than the 2048 tokens", id="length"),
        pytest.param("vllm.max_num_seq=3", "Did you mean vllm.max_num_seqs?", id="an unknown argument"),
        pytest.param("vllm.max_num_seqs=x", "allowed: an integer", id="a wrong type"),
        pytest.param("vllm.port=80", "Set serving.port", id="an option that is decided elsewhere"),
        pytest.param("vllm.enable_auto_tool_choice=true", "without vllm.tool_call_parser", id="options of the server"),
        pytest.param("serving.api_key_file=/nowhere/keys", "/nowhere/keys: No such file", id="a key file"),
        pytest.param("parallel.pipeline_parallel_size=9", "The replica needs 9 NPUs", id="more NPUs than there are"),
        pytest.param("vllm.tokenizer=/nowhere", "vllm.tokenizer: /nowhere does not exist", id="no tokenizer"),
        pytest.param("vllm.chat_template=/no.jinja", "vllm.chat_template: /no.jinja does not exist", id="no template"),
        pytest.param("vllm.long_prefill_token_threshold=2049", "more than the longest request", id="a threshold"),
        pytest.param("vllm.gpu_memory_utilization=1.5", "at most 1", id="more memory than there is"),
    ],
)
def test_plan_and_config_refuse_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, words: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    answers = {command: said(command, tmp_path, [override]) for command in ("plan", "config")}
    assert words in answers["plan"]
    assert answers["config"] == answers["plan"]


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "missing.safetensors"}}))
    for command in ("plan", "config"):
        assert "lacks missing.safetensors" in said(command, tmp_path, [])


@pytest.mark.parametrize("command", ["plan", "config"])
def test_what_serve_takes_is_taken(tmp_path: Path, command: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    assert said(command, tmp_path, ["parallel.tensor_parallel_size=4", "vllm.max_model_len=2048"]) == ""


def test_a_model_that_is_not_here_can_be_configured() -> None:
    assert said("config", Path("qwen3-32b"), ["model.path=/models/elsewhere"]) == ""


def test_a_workload_on_the_command_line_blames_no_key_that_nobody_wrote(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    trace, both = ["--trace", "/nowhere"], ["--trace", "/nowhere", "--concurrency", "3"]
    assert "/nowhere" in said("plan", tmp_path, trace)
    assert "contradict each other" in said("plan", tmp_path, both)
    assert "null" not in said("plan", tmp_path, trace) + said("plan", tmp_path, both)

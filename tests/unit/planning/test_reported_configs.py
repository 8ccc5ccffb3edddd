"""Configurations after reported commands: what becomes of each, or what is said of it."""

from pathlib import Path

import pytest

from ascend_serve.config import load
from ascend_serve.errors import ConfigError
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.planning import DeploymentPlan, plan_deployment

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "tests" / "cases" / "configs"

PLANNED = {
    "dsv4_dspark": ((8, 512), "7 drafts and the token itself: multiples of 8, up to 64 requests"),
    "qwen35_mtp": ((4, 128), "3 drafts of the model's own prediction layer, whatever the method is called"),
    "qwen3_omni": ((1, 48), "sizes as given; 100 requests are more, which is told"),
    "soc_950_unquoted": ((23, 256), "950 is a kind of NPU, not a number; it takes 4 sizes"),
}
REFUSED = {
    "attention_config": (["not a key of attention_config in vLLM"], "keys of two releases: neither has both"),
    "cli_spelling": (
        [
            "max-num-seqs: not an argument of vLLM",
            "Did you mean vllm.max_num_seqs?",
            "Write vllm.enable_prefix_caching: false.",
            "Write the options of speculative_config as keys below it.",
            "Write the options of compilation_config as keys below it.",
            "vllm.hf_overrides.rope_parameters",
            "vllm.enable_log_requests",
            "Set vllm.enable_lora=true.",
        ],
        "pasted from a command line: all of it at once",
    ),
    "glm52_pd_dcp": (
        ["vllm.data_parallel_address: decided", "vllm.api_server_count: decided", "Ray places the ranks"],
        "what tells ranks of each other where there is no Ray",
    ),
    "ray_serve_llm": (
        ["serving.deployment.ray_actor_options: decided", "num_proxies: not an option of Ray Serve's HTTPOptions"],
        "what another way to serve on Ray needs",
    ),
}


def test_the_tables_hold_every_configuration() -> None:
    assert {*PLANNED, *REFUSED} == {file.stem for file in CONFIGS.glob("*.yaml")}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def planned(name: str, *overrides: str) -> DeploymentPlan:
    return plan_deployment(load(CONFIGS / f"{name}.yaml", overrides), environment={})


@pytest.mark.parametrize("name", PLANNED)
def test_a_configuration_that_works(name: str) -> None:
    sizes, why = PLANNED[name]
    plan = planned(name)
    assert (plan.capture.sizes[0], plan.capture.sizes[-1]) == sizes, why
    assert plan.runtime is RuntimeName.ACLGRAPH
    assert plan.mode is plan.requested_mode


@pytest.mark.parametrize("name", REFUSED)
def test_a_configuration_that_does_not(name: str) -> None:
    words, why = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        planned(name)
    assert [word for word in words if word not in str(caught.value)] == [], why


def test_nothing_is_said_twice() -> None:
    with pytest.raises(ConfigError) as caught:
        planned("cli_spelling")
    keys = [line.split(":")[0] for line in caught.value.problem.splitlines()[1:]]
    assert len(keys) == len(set(keys))


def test_without_what_ray_decides_the_prefill_decode_split_is_planned() -> None:
    names = ("data_parallel_size_local", "data_parallel_address", "data_parallel_rpc_port", "api_server_count")
    plan = planned("glm52_pd_dcp", *(f"~vllm.{name}" for name in names))
    assert (plan.mode, plan.model.attention_backend) == (GraphMode.FULL_DECODE_ONLY, "sfa_v1")

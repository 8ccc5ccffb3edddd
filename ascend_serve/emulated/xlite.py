"""An emulated Xlite: a whole-model program, built once at load, that needs no capture.

``XliteWrapper`` has the attributes of vllm-ascend's class of that name (checked against 0.23.0), so that one graph
runtime serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from vllm.forward_context import get_forward_context, is_forward_context_available

from ascend_serve.emulated.device import emulated_options
from ascend_serve.emulated.xlite_program import WholeModelProgram, XliteStep, cache_views
from ascend_serve.graph.runtimes.xlite import XLITE

VERSION = "0.2.0rc4"
"""The release of Xlite whose behaviour is emulated."""

ARCHITECTURES = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"})
"""Models that the emulated Xlite has a program for; the real one has more."""

OPTIONS = XLITE.loaded_by
"""The section of ``additional_config`` that vllm-ascend 0.23.0 reads (``XliteGraphConfig``)."""


def installed_version(vllm_config: Any, rank: int) -> str | None:
    """The version of Xlite on the node of ``rank``, as ``emulated.xlite`` scripts it; ``None`` where it is missing."""
    script = emulated_options(vllm_config).get("xlite", {})
    if rank in script.get("missing_on", ()):
        return None
    versions: Mapping[Any, str] = script.get("versions", {})
    # Numbers that are keys of a mapping become text on their way through JSON.
    return versions.get(rank, versions.get(str(rank), VERSION))


def refusal(vllm_config: Any) -> str:
    """Why the emulated Xlite has no program for a model; empty when it has one."""
    model = vllm_config.model_config
    reasons = {
        f"the emulated Xlite has no program for {model.architectures[0]}": model.architectures[0] not in ARCHITECTURES,
        f"the emulated Xlite has no program for quantization {model.quantization}": model.quantization is not None,
        "the emulated Xlite has no program for sliding windows": model.get_sliding_window() is not None,
        "the emulated Xlite has no program for speculative decoding": vllm_config.speculative_config is not None,
        "the emulated Xlite has no program for expert parallelism": vllm_config.parallel_config.enable_expert_parallel,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class XliteWrapper:
    """Runs the whole-model program where it may, and the model as it is everywhere else.

    Args:
        runnable: The model, or its ``ACLGraphWrapper``.
        vllm_config: vLLM's configuration.

    Attributes:
        runnable: What runs where Xlite does not.
        full_mode: Whether prefill goes through Xlite, too.
        xlite_model: The program.
        forwards: How many forwards went through Xlite.
    """

    def __init__(self, runnable: Any, vllm_config: Any) -> None:
        self.runnable = runnable
        self.full_mode = bool(vllm_config.additional_config[OPTIONS].get("full_mode", False))
        self.xlite_model = WholeModelProgram(self.unwrap())
        self.forwards = 0
        self._caches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __getattr__(self, key: str) -> Any:
        """Everything else is the runnable's."""
        if key == "runnable":
            raise AttributeError(key)
        return getattr(self.runnable, key)

    def unwrap(self) -> Any:
        """The model itself."""
        runnable = self.runnable
        return runnable if isinstance(runnable, torch.nn.Module) else runnable.unwrap()

    def register_kv_caches(self, kv_caches: Sequence[torch.Tensor]) -> None:
        """Take the KV caches of the layers, in their order."""
        self._caches = [cache_views(cache) for cache in kv_caches]

    def __call__(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Run one forward, through Xlite where the step allows it."""
        step = None if inputs_embeds is not None else self._step(positions)
        if step is None:
            return self.runnable(
                input_ids=input_ids,
                positions=positions,
                intermediate_tensors=intermediate_tensors,
                inputs_embeds=inputs_embeds,
                **options,
            )
        self.forwards += 1
        return self.xlite_model(input_ids, step)

    def _step(self, positions: torch.Tensor) -> XliteStep | None:
        """What the program works on; nothing for profile runs and, unless in full mode, for batches with prefill."""
        if not is_forward_context_available():
            return None
        context = get_forward_context()
        if not context.attn_metadata:
            return None
        name, metadata = next(iter(context.attn_metadata.items()))
        if metadata.max_query_len > 1 and not self.full_mode:
            return None
        return XliteStep(positions, metadata, context.slot_mapping[name], self._caches)

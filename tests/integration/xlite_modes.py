"""Decodes the same prompts eager, with Xlite for decode alone and with Xlite in full mode; prints tokens as JSON.

Run as ``python -m tests.integration.xlite_modes TENSOR_PARALLEL_SIZE MODEL...``: one engine for each model, loaded for
Xlite, whose workers are then switched as the runtimes do it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.integration.engines import prompt

WAYS = ("full", "decode", "eager")
BATCHES = (1, 2, 5)
TOKENS = 16


def main() -> None:
    """Run the models named on the command line."""
    for model in sys.argv[2:]:
        sys.stdout.write("RESULT " + json.dumps({"model": Path(model).name, **_run(model, int(sys.argv[1]))}) + "\n")
        sys.stdout.flush()


def _run(model: str, tensor_parallel_size: int) -> dict[str, Any]:
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    cores = sorted(os.sched_getaffinity(0))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(cores[r % len(cores)]) for r in range(tensor_parallel_size))
    llm = LLM(
        model,
        # Xlite's program sums in other steps than the model's layers, which the last bit of bfloat16 shows.
        dtype="float32",
        tensor_parallel_size=tensor_parallel_size,
        max_model_len=256,
        max_num_seqs=8,
        kv_cache_memory_bytes=1 << 26,
        enable_prefix_caching=False,
        enforce_eager=True,
        distributed_executor_backend="uni" if tensor_parallel_size == 1 else "mp",
        additional_config={"xlite_graph_config": {"enabled": True, "full_mode": True}},
    )
    params = SamplingParams(temperature=0.0, max_tokens=TOKENS, ignore_eos=True)
    result = {}
    for way in WAYS:
        before = llm.collective_rpc(switch, args=(way,))
        answers = [llm.generate([prompt(n) for n in range(batch)], params, use_tqdm=False) for batch in BATCHES]
        forwards = [after - first for after, first in zip(llm.collective_rpc(switch, args=(way,)), before, strict=True)]
        tokens = [[list(answer.outputs[0].token_ids) for answer in batch] for batch in answers]
        result[way] = {"tokens": tokens, "forwards": forwards}
    del llm
    cleanup_dist_env_and_memory()
    return result


def switch(worker: Any, way: str) -> int:
    """Let the model of this rank go ``way``; forwards that went through Xlite so far."""
    from ascend_serve.engine.runner_choice import seam_of
    from ascend_serve.engine.runtimes.factory import apply_plan
    from ascend_serve.graph.modes import GraphMode, RuntimeName
    from ascend_serve.graph.plan import CapturePlan

    runtime = RuntimeName.EAGER if way == "eager" else RuntimeName.XLITE
    apply_plan(seam_of(worker.model_runner), CapturePlan(1, runtime, GraphMode.NONE, (), ()), frozenset())
    wrapper = worker.model_runner.xlite_model
    wrapper.full_mode = way == "full"
    return int(wrapper.forwards)


if __name__ == "__main__":
    main()

"""What planning reads of the ``vllm:`` section, with vLLM's defaults (0.23.0 and 0.32.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ascend_serve.errors import ConfigError
from ascend_serve.graph.architecture import Architecture
from ascend_serve.graph.situation import COMPILED
from ascend_serve.planning.model_config import read_architecture

COMPILATION_MODES = ("NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", COMPILED)
"""vLLM's ``CompilationMode``, by value."""


def _mode_name(value: Any) -> Any:
    return COMPILATION_MODES[value] if isinstance(value, int) and 0 <= value < len(COMPILATION_MODES) else value


class _Read(BaseModel):
    """Options that planning does not read may be there, too."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SpeculativeSettings(_Read):
    """``vllm.speculative_config``."""

    num_speculative_tokens: int = Field(1, ge=1)
    method: str | None = None
    model: str | None = None

    @property
    def multi_token_prediction(self) -> bool:
        """Whether the drafts come from the model's own prediction layers."""
        return self.method is not None and "mtp" in self.method.lower()

    def draft_layers(self, architecture: Architecture) -> int:
        """Layers of the draft model: 0 for lookup methods, those of its own configuration otherwise."""
        if self.multi_token_prediction:
            return max(1, architecture.num_nextn_predict_layers)
        return read_architecture(self.model, "vllm.speculative_config.model").num_hidden_layers if self.model else 0


class PassSettings(_Read):
    """``vllm.compilation_config.pass_config``."""

    enable_sp: bool | None = None


class CompilationSettings(_Read):
    """``vllm.compilation_config``."""

    mode: Annotated[str, BeforeValidator(_mode_name)] = COMPILED
    pass_config: PassSettings = PassSettings()
    cudagraph_specialize_lora: bool = True


class AscendSettings(_Read):
    """``vllm.additional_config``."""

    enable_flashcomm1: bool | None = None
    enable_shared_expert_dp: bool = False
    multistream_overlap_shared_expert: bool = False


class EngineSettings(_Read):
    """The ``vllm:`` section.

    ``max_num_seqs`` is vLLM's default of a server on a device it does not know; the plan passes it on, so that the
    engine counts with the same number.
    """

    runner: str = "auto"
    convert: str = "auto"
    max_num_seqs: int = Field(256, ge=1)
    max_num_batched_tokens: int | None = Field(None, ge=1)
    max_model_len: int | None = None
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool | None = None
    gpu_memory_utilization: float = Field(0.92, gt=0, le=1)
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype: str = "auto"
    dtype: str = "auto"
    quantization: str | None = None
    prefill_context_parallel_size: int = Field(1, ge=1)
    decode_context_parallel_size: int = Field(1, ge=1)
    speculative_config: SpeculativeSettings | None = None
    compilation_config: CompilationSettings = CompilationSettings()
    additional_config: AscendSettings = AscendSettings()
    enable_lora: bool = False
    max_loras: int = Field(1, ge=1)
    specialize_active_lora: bool = False

    @model_validator(mode="after")
    def _no_more_requests_than_tokens(self) -> Self:
        """Where nobody says how many requests, vLLM takes no more than tokens of a batch."""
        if "max_num_seqs" not in self.model_fields_set and self.max_num_batched_tokens is not None:
            object.__setattr__(self, "max_num_seqs", min(self.max_num_seqs, self.max_num_batched_tokens))
        return self

    @property
    def stated_model_len(self) -> int | None:
        """The longest request in tokens; ``None`` where nobody says, or -1 leaves it to vLLM."""
        return None if self.max_model_len == -1 else self.max_model_len

    @property
    def num_speculative_tokens(self) -> int:
        """Draft tokens per step; 0 without speculative decoding."""
        return self.speculative_config.num_speculative_tokens if self.speculative_config else 0

    @property
    def lora_cases(self) -> tuple[int, ...]:
        """Numbers of active adapters with graphs of their own: ``CudagraphDispatcher._get_lora_cases``."""
        if not self.enable_lora:
            return (0,)
        most = self.max_loras + 1
        if not self.compilation_config.cudagraph_specialize_lora:
            return (most,)
        powers = (n for n in range(1, most) if n & (n - 1) == 0) if self.specialize_active_lora else ()
        return (0, *powers, most)

    def sequence_parallel(self, environment: Mapping[str, str], expert_parallel: bool) -> bool:
        """Whether activations are split along the tokens (``vllm_ascend.utils.enable_sp``, or vLLM's own pass)."""
        ascend = self.additional_config
        flashcomm = ascend.enable_flashcomm1
        if flashcomm is None:
            flashcomm = environment.get("VLLM_ASCEND_ENABLE_FLASHCOMM1", "0") == "1"
        shared_experts = ascend.enable_shared_expert_dp and expert_parallel
        return bool(flashcomm or shared_experts or self.compilation_config.pass_config.enable_sp)


def read_settings(arguments: Mapping[str, Any]) -> EngineSettings:
    """Read the ``vllm:`` section; null is a default.

    Raises:
        ConfigError: A value has the wrong type, with its full key.
    """
    try:
        return EngineSettings.model_validate({name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(["vllm", *map(str, problem["loc"])])
        raise ConfigError(f"{key}: {problem['input']!r}: {problem['msg']}", f"Change {key}.") from error

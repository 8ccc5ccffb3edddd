"""What the user writes: typed schema, loading of YAML and overrides, translation to vLLM arguments."""

from ascend_serve.config.combinations import ineffective_options
from ascend_serve.config.load import LoadedConfig, load, load_with_sources
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.translate import engine_args

__all__ = ["AscendServeConfig", "LoadedConfig", "engine_args", "ineffective_options", "load", "load_with_sources"]

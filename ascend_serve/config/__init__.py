"""What the user writes: typed schema, loading of YAML and overrides, translation to vLLM arguments."""

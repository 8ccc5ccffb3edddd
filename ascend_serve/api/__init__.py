"""The OpenAI API around an engine: vLLM's own application, and the layers between it and who asks."""

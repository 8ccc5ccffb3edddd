"""Measures a server with the OpenAI API, with vLLM's own ``bench serve`` as the load generator."""

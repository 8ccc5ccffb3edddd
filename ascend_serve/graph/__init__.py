"""Decisions about graphs, pure: no torch, no vLLM, no Ray."""

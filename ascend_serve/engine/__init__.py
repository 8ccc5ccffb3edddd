"""The seams into vLLM, and the only place that touches its private names (checked against 0.23.0 and 0.32.0)."""

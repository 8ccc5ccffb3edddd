"""ascend_serve: large language models on Ray clusters of Ascend NPUs, with graph mode that holds on every rank."""

__version__ = "0.1.0"

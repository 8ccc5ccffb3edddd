"""The part of pyACL, CANN's own Python module, that vllm-ascend imports; anything else of it does not exist."""

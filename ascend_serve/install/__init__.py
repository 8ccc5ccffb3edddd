"""The set-up of an NPU node: vLLM without a device, vllm-ascend, and the pieces that no resolver can place."""

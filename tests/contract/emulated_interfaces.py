"""What the emulated NPU uses of the installed vLLM, whose CPU backend it runs on; in the form of ``interfaces.py``.

It uses what ``interfaces.VLLM`` lists as well. The device's code must not lean on anything that is only here.
"""

from __future__ import annotations

from tests.contract.interfaces import Table

_DECODER = (
    "Attention.attn",
    "Attention.head_dim",
    "Attention.num_heads",
    "Attention.num_kv_heads",
    "Attention.o_proj",
    "Attention.qkv_proj",
    "Attention.rotary_emb",
    "DecoderLayer.input_layernorm",
    "DecoderLayer.mlp",
    "DecoderLayer.post_attention_layernorm",
    "DecoderLayer.self_attn",
)


def _model(name: str, *others: str) -> tuple[str, ...]:
    """Members of one model's classes, which all begin with its name."""
    return tuple(name + member for member in (*_DECODER, *others))


VLLM_CPU: Table = {
    "vllm._custom_ops": (
        "torch.ops._C.cpu_attention_with_kv_cache",
        "torch.ops._C.cpu_attn_reshape_and_cache",
        "torch.ops._C.cpu_fused_moe",
        "torch.ops._C.fused_add_rms_norm",
        "torch.ops._C.rms_norm",
        "torch.ops._C.rotary_embedding",
    ),
    "vllm.compilation.counter": ("CompilationCounter.num_cudagraph_captured", "compilation_counter"),
    "vllm.compilation.cuda_graph": ("CUDAGraphOptions",),
    "vllm.compilation.monitor": ("set_cudagraph_capturing_enabled(enabled)", "validate_cudagraph_capturing_enabled()"),
    "vllm.config": ("CompilationConfig",),
    "vllm.config.compilation": (
        "CompilationConfig.backend",
        "CompilationConfig.custom_ops",
        "CompilationConfig.splitting_ops",
        "CompilationMode.DYNAMO_TRACE_ONCE",
        "CompilationMode.VLLM_COMPILE",
        "CUDAGraphMode.has_full_cudagraphs(self)",
        "CUDAGraphMode.requires_piecewise_compilation(self)",
    ),
    "vllm.config.model": ("ModelConfig.get_sliding_window(self)",),
    "vllm.config.parallel": ("ParallelConfig.local_world_size",),
    "vllm.config.scheduler": ("SchedulerConfig.max_num_batched_tokens",),
    "vllm.distributed.parallel_state": (
        "GroupCoordinator.all_reduce(self, input_)",
        "GroupCoordinator.rank_in_group",
        "GroupCoordinator.world_size",
        "get_tp_group()",
    ),
    "vllm.envs": ("VLLM_LOGGING_LEVEL", "VLLM_USE_V2_MODEL_RUNNER"),
    "vllm.forward_context": (
        "ForwardContext.attn_metadata",
        "ForwardContext.batch_descriptor",
        "ForwardContext.cudagraph_runtime_mode",
        "ForwardContext.slot_mapping",
        "get_forward_context()",
        "set_forward_context(attn_metadata, vllm_config, num_tokens, cudagraph_runtime_mode, slot_mapping)",
        "is_forward_context_available()",
    ),
    "vllm.lora.punica_wrapper.punica_base": (
        "PunicaWrapperBase._token_lora_indices",
        "PunicaWrapperBase._update_base_metadata(self, mapping, lora_index_to_id, max_loras, vocab_size)",
        "PunicaWrapperBase.sampler_indices",
        "PunicaWrapperBase.update_metadata(self, mapping, lora_index_to_id, max_loras, vocab_size)",
    ),
    "vllm.lora.punica_wrapper.punica_cpu": (
        "PunicaWrapperCPU._apply_expand(self, y, x, w_t_all, y_offset, y_slice_size, add_inputs)",
        "PunicaWrapperCPU._apply_shrink(self, y, x, w_t_all, scale)",
        "PunicaWrapperCPU.add_lora_embedding(self, y, x, lora_b_stacked, add_inputs)",
        "PunicaWrapperCPU.add_lora_logits(self, y, x, lora_a_stacked, lora_b_stacked, scale, buffer)",
    ),
    "vllm.lora.layers": ("LoRAMapping",),
    "vllm.lora.layers.utils": ("LoRAMapping.index_mapping",),
    "vllm.triton_utils": ("HAS_TRITON", "tl", "tldevice", "triton"),
    "vllm.config.vllm": ("HAS_TRITON",),
    "vllm.v1.worker.cpu": (),
    "vllm.v1.worker.cpu.model_runner": ("CPUModelRunner",),
    "vllm.v1.worker.gpu": (),
    "vllm.v1.worker.gpu.attn_utils": ("build_slot_mappings_by_layer(slot_mappings, kv_cache_config)",),
    "vllm.v1.worker.gpu.cudagraph_utils": (
        "CudaGraphManager._capture_stream(self, desc)",
        "ModelCudaGraphManager.run_fullgraph(self, desc)",
        "graph_capture",
    ),
    "vllm.v1.worker.gpu.model_runner": (
        "GPUModelRunner.initialize_kv_cache(self, kv_cache_config)",
        "GPUModelRunner.model_state",
        "ModelCudaGraphManager",
        "lock_workspace",
    ),
    "vllm.v1.worker.gpu.model_states.interface": (
        "ModelState.prepare_attn("
        "self, input_batch, cudagraph_mode, block_tables, slot_mappings, attn_groups, kv_cache_config)",
    ),
    "vllm.triton_utils.dispatcher": ("register_kernels(overrides)",),
    "vllm.v1.sample": (),
    "vllm.v1.sample.rejection_sampler": (
        "apply_top_k_top_p",
        "expand_kernel(output_ptr, input_ptr, cu_num_tokens_ptr, replace_from, replace_to, MAX_NUM_TOKENS)",
    ),
    "vllm.model_executor.layers.activation": ("torch.ops._C.silu_and_mul",),
    "vllm.model_executor.layers.attention.attention": (
        "Attention.impl",
        "set_default_quant_scales._k_scale_float",
        "set_default_quant_scales._v_scale_float",
    ),
    "vllm.model_executor.layers.fused_moe.experts.cpu_moe": ("CPUUnquantizedExperts.isa",),
    "vllm.model_executor.layers.fused_moe.fused_moe_method_base": ("FusedMoEMethodBase.moe_kernel",),
    "vllm.model_executor.layers.fused_moe.modular_kernel": ("FusedMoEKernel.fused_experts",),
    "vllm.model_executor.layers.fused_moe.routed_experts": (
        "RoutedExperts.quant_method",
        "RoutedExperts.renormalize",
        "RoutedExperts.top_k",
    ),
    "vllm.model_executor.layers.fused_moe.runner.moe_runner": ("MoERunner.routed_experts",),
    "vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method": ("text:w13_weight", "text:w2_weight"),
    "vllm.model_executor.layers.layernorm": ("RMSNorm.variance_epsilon", "RMSNorm.weight"),
    "vllm.model_executor.layers.linear": ("text:bias", "text:weight"),
    "vllm.model_executor.layers.rotary_embedding.base": (
        "RotaryEmbeddingBase.cos_sin_cache",
        "RotaryEmbeddingBase.is_neox_style",
    ),
    "vllm.model_executor.layers.utils": ("dispatch_cpu_unquantized_gemm.cpu_linear",),
    "vllm.model_executor.models.llama": (
        *_model("Llama", "MLP.down_proj", "MLP.gate_up_proj"),
        "LlamaModel.embed_tokens",
        "LlamaModel.layers",
        "LlamaModel.norm",
    ),
    "vllm.model_executor.models.qwen2": _model("Qwen2", "MLP.down_proj", "MLP.gate_up_proj"),
    "vllm.model_executor.models.qwen3": _model("Qwen3", "Attention.k_norm", "Attention.q_norm"),
    "vllm.model_executor.models.qwen3_moe": _model(
        "Qwen3Moe",
        "Attention.k_norm",
        "Attention.q_norm",
        "MLP.down_proj",
        "MLP.gate_up_proj",
        "SparseMoeBlock.experts",
        "SparseMoeBlock.gate",
    ),
    "vllm.platforms.cpu": (
        "CpuPlatform",
        "CpuPlatform.check_and_update_config(cls, vllm_config)",
        "CpuPlatform.get_attn_backend_cls(cls, selected_backend, attn_selector_config)",
        "CpuPlatform.get_punica_wrapper(cls)",
        "CpuPlatform.register_triton_kernel_overrides(cls)",
    ),
    "vllm.platforms.interface": (
        "Platform.device_control_id_to_physical_device_id(cls, device_id)",
        "Platform.get_compile_backend(cls)",
        "Platform.get_global_graph_pool(self)",
        "Platform.ray_device_key",
        "Platform.ray_noset_device_env_vars",
        "Platform.simple_compile_backend",
        "Platform.support_static_graph_mode(cls)",
    ),
    "vllm.utils.cpu_resource_utils": ("get_allowed_cpu_list()", "LogicalCPUInfo.physical_core"),
    "vllm.v1.attention.backend": (
        "AttentionCGSupport.ALWAYS",
        "AttentionMetadataBuilder._cudagraph_support",
        "AttentionType.ENCODER",
        "AttentionType.ENCODER_ONLY",
    ),
    "vllm.v1.attention.backends.cpu_attn": (
        "CPUAttentionBackend.get_builder_cls()",
        "CPUAttentionBackend.get_impl_cls()",
        "CPUAttentionBackendImpl.attn_type",
        "CPUAttentionBackendImpl.forward(self, layer, query, key, value, kv_cache, attn_metadata, output)",
        "CPUAttentionBackendImpl.alibi_slopes",
        "CPUAttentionBackendImpl.kv_cache_dtype",
        "CPUAttentionBackendImpl.logits_soft_cap",
        "CPUAttentionBackendImpl.scale",
        "CPUAttentionBackendImpl.sinks",
        "CPUAttentionBackendImpl.sliding_window",
        "CPUAttentionMetadata.block_table",
        "CPUAttentionMetadata.causal",
        "CPUAttentionMetadata.max_query_len",
        "CPUAttentionMetadata.num_actual_tokens",
        "CPUAttentionMetadata.query_start_loc",
        "CPUAttentionMetadata.scheduler_metadata",
        "CPUAttentionMetadata.seq_lens",
        "CPUAttentionMetadataBuilder",
    ),
    "vllm.v1.worker.cpu_model_runner": (
        "CPUModelRunner._sync_device(self)",
        "CPUModelRunner._to_list(self, sampled_token_ids)",
        "CPUModelRunner.load_model(self, load_dummy_weights)",
    ),
    "vllm.v1.worker.cpu_worker": (
        "CPUModelRunner",
        "CPUWorker.compile_or_warm_up_model(self)",
        "CPUWorker.init_device(self)",
    ),
    "vllm.v1.worker.gpu_model_runner": (
        "GPUModelRunner._capture_cudagraphs(self, batch_descriptors, cudagraph_runtime_mode)",
        "GPUModelRunner._dummy_sampler_run(self, hidden_states)",
        "GPUModelRunner._freeze_gc",
        "GPUModelRunner._model_forward",
        "GPUModelRunner._sample",
        "GPUModelRunner.input_batch",
        "GPUModelRunner.requests",
        "GPUModelRunner.initialize_kv_cache(self, kv_cache_config)",
        "GPUModelRunner.is_pooling_model",
        "GPUModelRunner.kv_caches",
    ),
    "vllm.v1.cudagraph_dispatcher": ("CudagraphDispatcher.get_capture_descs(self)",),
    "vllm.v1.worker.gpu_worker": ("Worker.execute_model(self, scheduler_output)", "Worker.use_v2_model_runner"),
    "vllm.v1.worker.worker_base": (
        "WorkerBase.distributed_init_method",
        "WorkerBase.model_config",
        "WorkerBase.scheduler_config",
    ),
}

TORCH = (
    "torch.Tensor._version",
    "torch.UntypedStorage._cdata",
    "torch.UntypedStorage._new_with_weak_ptr",
    "torch._C._dispatch_has_kernel_for_dispatch_key",
    "torch._C._distributed_c10d.FakeWork",
    "torch._inductor.compile_fx.compile_fx",
    "torch._ops.OpOverload",
    "torch._subclasses.fake_tensor.FakeTensorMode",
    "torch.cpu._init_amx",
    "torch.cpu._is_amx_tile_supported",
    "torch.cpu._is_avx512_bf16_supported",
    "torch.cpu._is_avx512_supported",
    "torch.ops.aten.add.Tensor._op",
    "torch.ops.aten.add.Tensor._overloadpacket",
    "torch.ops.aten.add.Tensor._schema",
    "torch.ops.aten.relu.default",
    "torch.utils._python_dispatch.TorchDispatchMode",
    "torch.utils._pytree.SequenceKey",
    "torch.utils._pytree.tree_leaves",
    "torch.utils._pytree.tree_leaves_with_path",
    "torch.utils._pytree.tree_map_only",
)
"""Names of torch that recording and replay use, most of them private and compiled: they are looked up, not read."""

RAY: Table = {
    "ray._private.worker": ("_global_node", "text:_temp_dir"),
    "ray._private.grpc_utils": ("init_grpc_channel(address)",),
    "ray._private.node": ("Node.get_logs_dir_path(self)", "Node.raylet_socket_name", "text:all_processes"),
    "ray._private.state": ("available_resources_per_node()",),
    "ray._private.services": ("find_gcs_addresses", "get_ray_address_from_environment(addr, temp_dir)"),
    "ray._private.ray_constants": ("ENABLE_RAY_CLUSTER", "ENABLE_RAY_CLUSTERS_ENV_VAR"),
    "ray.actor": ("ActorHandle._actor_id",),
    "ray.serve._private.api": (
        "_create_controller_and_proxy_refs("
        "http_options, grpc_options, global_logging_config, global_tracing_config, controller_options)",
    ),
    "ray.serve._private.replica": ("text:__serve_build_asgi_app__",),
}
"""Private names of Ray, in ``cluster/`` and ``serving/``."""

PYTHON: Table = {"logging": ("text:_handlerList",), "os": ("text:_exit",)}
"""Private names of Python 3.11 to 3.13, and its public one that looks so."""

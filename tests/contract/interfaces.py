"""Every interface of vLLM, vllm-ascend, torch_npu and Xlite that code for NPUs uses, by the module that defines it.

What the emulated NPU uses beyond that is in ``emulated_interfaces.py``.

One line for each: ``name``, ``Class.member``, ``name(parameters that are passed)``, or ``text:...`` for the name of an
option or the beginning of a message. ``test_vendor_interfaces.py`` holds the table against the releases, and our code
against the table.
"""

from __future__ import annotations

Table = dict[str, tuple[str, ...]]

VLLM: Table = {
    "vllm": ("__version__", "SamplingParams"),
    "vllm.benchmarks.serve": ("add_cli_args(parser)", "main(args)"),
    "vllm.compilation.cuda_graph": (
        "CUDAGraphWrapper._all_instances",
        "CUDAGraphWrapper.concrete_cudagraph_entries",
        "CUDAGraphWrapper.runtime_mode",
        "CUDAGraphEntry.cudagraph",
    ),
    "vllm.config": ("CompilationMode", "CUDAGraphMode", "ParallelConfig", "VllmConfig"),
    "vllm.config.cache": ("CacheConfig.block_size",),
    "vllm.config.compilation": (
        "CompilationConfig.compilation_time",
        "CompilationConfig.cudagraph_capture_sizes",
        "CompilationConfig.cudagraph_mode",
        "CompilationConfig.cudagraph_specialize_lora",
        "CompilationConfig.encoder_compilation_time",
        "CompilationConfig.max_cudagraph_capture_size",
        "CompilationConfig.mode",
        "CompilationMode.NONE",
        "CUDAGraphMode.NONE",
        "CUDAGraphMode.FULL",
        "CUDAGraphMode.PIECEWISE",
        "CUDAGraphMode.FULL_DECODE_ONLY",
        "CUDAGraphMode.FULL_AND_PIECEWISE",
    ),
    "vllm.config.lora": ("LoRAConfig.max_loras", "LoRAConfig.specialize_active_lora"),
    "vllm.config.model": (
        "ModelConfig.architectures",
        "ModelConfig.dtype",
        "ModelConfig.enforce_eager",
        "ModelConfig.get_num_layers(parallel_config)",
        "ModelConfig.is_moe",
        "ModelConfig.max_model_len",
        "ModelConfig.model",
        "ModelConfig.quantization",
    ),
    "vllm.config.parallel": (
        "ParallelConfig.data_parallel_index",
        "ParallelConfig.data_parallel_size",
        "ParallelConfig.data_parallel_size_local",
        "ParallelConfig.decode_context_parallel_size",
        "ParallelConfig.enable_expert_parallel",
        "ParallelConfig.pipeline_parallel_size",
        "ParallelConfig.placement_group",
        "ParallelConfig.prefill_context_parallel_size",
        "ParallelConfig.tensor_parallel_size",
        "ParallelConfig.worker_cls",
        "ParallelConfig.world_size",
    ),
    "vllm.config.profiler": ("ProfilerConfig.torch_profiler_dir", "ProfilerConfig.profiler"),
    "vllm.config.scheduler": ("SchedulerConfig.max_num_seqs",),
    "vllm.config.speculative": (
        "SpeculativeConfig.draft_model_config",
        "SpeculativeConfig.num_speculative_tokens",
    ),
    "vllm.config.vllm": (
        "VllmConfig.additional_config",
        "VllmConfig.cache_config",
        "VllmConfig.compilation_config",
        "VllmConfig.instance_id",
        "VllmConfig.lora_config",
        "VllmConfig.model_config",
        "VllmConfig.parallel_config",
        "VllmConfig.profiler_config",
        "VllmConfig.scheduler_config",
        "VllmConfig.speculative_config",
    ),
    "vllm.distributed.device_communicators.shm_broadcast": (
        "MessageQueue._spin_condition",
        "SpinCondition.busy_loop_s",
        "SpinCondition.is_reader",
        "SpinCondition.last_read",
        "SpinCondition.wait(self, timeout_ms)",
    ),
    "vllm.distributed.parallel_state": ("get_pp_group()", "GroupCoordinator.is_last_rank"),
    "vllm.engine.arg_utils": (
        "AsyncEngineArgs",
        "AsyncEngineArgs.enable_log_requests",
        "EngineArgs.additional_config",
        "EngineArgs.compilation_config",
        "EngineArgs.data_parallel_backend",
        "EngineArgs.create_engine_config(self, usage_context)",
        "EngineArgs.data_parallel_size",
        "EngineArgs.disable_log_stats",
        "EngineArgs.distributed_executor_backend",
        "EngineArgs.enable_expert_parallel",
        "EngineArgs.enforce_eager",
        "EngineArgs.from_cli_args(cls, args)",
        "EngineArgs.max_num_seqs",
        "EngineArgs.model",
        "EngineArgs.pipeline_parallel_size",
        "EngineArgs.served_model_name",
        "EngineArgs.tensor_parallel_size",
        "EngineArgs.trust_remote_code",
        "EngineArgs.worker_extension_cls",
    ),
    "vllm.entrypoints.serve.profile.api_router": ("text:/start_profile", "text:/stop_profile"),
    "vllm.forward_context": (
        "BatchDescriptor.num_active_loras",
        "BatchDescriptor.num_reqs",
        "BatchDescriptor.num_tokens",
        "BatchDescriptor.uniform",
    ),
    "vllm.platforms": ("current_platform",),
    "vllm.platforms.interface": (
        "Platform.device_control_env_var",
        "Platform.device_name",
        "Platform.get_static_graph_wrapper_cls(cls)",
    ),
    "vllm.tokenizers": ("get_tokenizer",),
    "vllm.utils.argparse_utils": ("FlexibleArgumentParser",),
    "vllm.utils.import_utils": ("resolve_obj_by_qualname(qualname)",),
    "vllm.v1.core.sched.output": (
        "SchedulerOutput.num_scheduled_tokens",
        "SchedulerOutput.total_num_scheduled_tokens",
    ),
    "vllm.v1.cudagraph_dispatcher": (
        "CudagraphDispatcher.cudagraph_keys",
        "CudagraphDispatcher.initialize_cudagraph_keys(self, cudagraph_mode, uniform_decode_query_len)",
    ),
    "vllm.v1.executor.abstract": (
        "Executor.initialize_from_config(self, kv_cache_configs)",
        "Executor.parallel_config",
        "Executor.vllm_config",
    ),
    "vllm.v1.executor.multiproc_executor": (
        "MultiprocExecutor.collective_rpc(self, method, timeout, args, kwargs, non_block)",
        "MultiprocExecutor.execute_model(self, scheduler_output, non_block)",
        "MultiprocExecutor.failure_callback",
        "MultiprocExecutor.is_failed",
        "MultiprocExecutor.response_mqs",
        "MultiprocExecutor.shutting_down",
        "MultiprocExecutor.world_size",
        "WorkerProc._init_message_queues(self, input_shm_handle, vllm_config)",
        "WorkerProc.rpc_broadcast_mq",
    ),
    "vllm.v1.executor.ray_executor_v2": (
        "RayExecutorV2._init_executor(self)",
        "RayExecutorV2._monitor_thread",
        "RayExecutorV2.ray_worker_handles",
        "RayExecutorV2.shutdown(self)",
        "RayExecutorV2.start_worker_monitor(self, inline)",
        "RayWorkerProc._init_kwargs",
        "RayWorkerProc.initialize_worker",
        "WORKER_SPECIFIC_ENV_VARS",
        "RayWorkerHandle.actor",
        "RayWorkerHandle.node_id",
        "RayWorkerHandle.rank",
        "RayWorkerHandle.run_ref",
    ),
    "vllm.v1.executor.ray_utils": (
        "get_bundles_sorted_by_node(placement_group)",
        "initialize_ray_cluster(parallel_config, require_gpu_on_driver)",
    ),
    "vllm.v1.kv_cache_interface": ("KVCacheConfig",),
    "vllm.v1.utils": ("CpuGpuBuffer.gpu",),
    "vllm.sequence": ("IntermediateTensors.tensors",),
    "vllm.usage.usage_lib": ("UsageContext.OPENAI_API_SERVER",),
    "vllm.v1.engine.async_llm": (
        "AsyncLLM._add_request(self, request, prompt, parent_req, index, queue)",
        "AsyncLLM.abort(self, request_id, internal)",
        "AsyncLLM.collective_rpc(self, method, args)",
        "AsyncLLM.errored",
        "AsyncLLM.from_vllm_config(cls, vllm_config, usage_context, stat_loggers)",
        "AsyncLLM.from_vllm_config(cls, vllm_config, enable_log_requests, disable_log_stats)",
        "AsyncLLM.generate(self, prompt, sampling_params, request_id, data_parallel_rank)",
        "AsyncLLM.get_supported_tasks(self)",
        "AsyncLLM.logger_manager",
        "AsyncLLM.model_config",
        "AsyncLLM.output_processor",
        "AsyncLLM.start_profile(self)",
        "AsyncLLM.stop_profile(self)",
        "AsyncLLM.shutdown(self, timeout)",
        "AsyncLLM.vllm_config",
    ),
    "vllm.v1.engine.core": ("EngineCoreProc.run_engine_core",),
    "vllm.v1.engine.exceptions": ("EngineDeadError",),
    "vllm.v1.engine.output_processor": (
        "OutputProcessor.has_unfinished_requests(self)",
        "OutputProcessor.process_outputs(self, engine_core_outputs, engine_core_timestamp, iteration_stats)",
        "OutputProcessorOutput.reqs_to_abort",
        "OutputProcessor.propagate_error(self, e)",
    ),
    "vllm.v1.engine.utils": ("CoreEngineProcManager", "get_mp_context"),
    "vllm.v1.engine": ("EngineCoreOutput.request_id",),
    "vllm.v1.metrics.loggers": (
        "PrometheusStatLogger.record(self, scheduler_stats, iteration_stats, mm_cache_stats, engine_idx)",
        "StatLoggerManager.stat_loggers",
    ),
    "vllm.v1.metrics.stats": (
        "IterationStats.finished_requests",
        "IterationStats.num_generation_tokens",
        "IterationStats.num_prompt_tokens",
    ),
    "vllm.exceptions": ("VLLMValidationError",),
    "vllm.sampling_params": ("SamplingParams.skip_reading_prefix_cache",),
    "vllm.v1.worker.gpu_model_runner": (
        "GPUModelRunner._dummy_run(self, num_tokens, cudagraph_runtime_mode, force_attention, skip_eplb)",
        "GPUModelRunner._warmup_and_capture(self, desc, cudagraph_runtime_mode)",
        "GPUModelRunner.capture_model(self)",
        "GPUModelRunner.compilation_config",
        "GPUModelRunner.cudagraph_dispatcher",
        "GPUModelRunner.get_model(self)",
        "GPUModelRunner.input_ids",
        "GPUModelRunner.intermediate_tensors",
        "GPUModelRunner.model",
        "GPUModelRunner.positions",
        "GPUModelRunner.uniform_decode_query_len",
    ),
    "vllm.v1.worker.worker_base": (
        "CompilationTimes.encoder",
        "CompilationTimes.language_model",
        "WorkerBase.compile_or_warm_up_model(self)",
        "WorkerBase.model_runner",
        "WorkerBase.parallel_config",
        "WorkerBase.rank",
        "WorkerBase.vllm_config",
    ),
    "vllm.model_executor.models.interfaces_base": ("VllmModelForTextGeneration.compute_logits(self, hidden_states)",),
}
"""Both of vLLM 0.23.0 and of the installed one, which the emulated NPU runs on."""

VLLM_0_23_0: Table = {
    "vllm.entrypoints.openai.api_server": (
        "build_app(args, supported_tasks, model_config)",
        "init_app_state(engine_client, state, args, supported_tasks)",
    ),
    "vllm.entrypoints.openai.cli_args": ("make_arg_parser(parser)",),
    "vllm.entrypoints.serve.utils.server_utils": (
        "AuthenticationMiddleware(app, tokens)",
        "AuthenticationMiddleware.verify_token(self, headers)",
    ),
    "vllm.v1.executor.ray_executor_v2": ("RayWorkerProc.initialize_worker(self, local_rank, env_vars)",),
}
"""What only vLLM 0.23.0 has; ``openai_app.py`` and ``guard.py`` of ``serving/`` and ``node_worker.py`` take either."""

VLLM_INSTALLED: Table = {
    "vllm.entrypoints.launchers.api_server.app_state": ("init_app_state(engine_client, state, args, supported_tasks)",),
    "vllm.entrypoints.launchers.app": ("build_app(args, supported_tasks, model_config)",),
    "vllm.entrypoints.launchers.cli_args": ("make_arg_parser(parser)",),
    "vllm.entrypoints.serve.middleware.authenticate": (
        "AuthenticationMiddleware(app, tokens)",
        "AuthenticationMiddleware.verify_token(self, headers)",
    ),
    "vllm.v1.executor.abstract": ("Executor.compile_or_warm_up_model(self)",),
    "vllm.v1.executor.ray_executor_v2": (
        "RayWorkerProc.initialize_worker("
        "self, local_rank, env_vars, distributed_init_method, assigned_physical_gpu_ids)",
    ),
}
"""What the installed vLLM has instead."""

VLLM_ASCEND: Table = {
    "vllm_ascend.ascend_config": (
        "AscendCompilationConfig.__init__(self, enable_npugraph_ex, enable_static_kernel)",
        "XliteGraphConfig.enabled",
        "XliteGraphConfig.full_mode",
        "text:ascend_compilation_config",
        "text:enabled",
        "text:full_mode",
        "text:xlite_graph_config",
    ),
    "vllm_ascend.compilation.acl_graph": (
        "ACLGraphEntry.aclgraph",
        "ACLGraphEntry.batch_descriptor",
        "ACLGraphWrapper.concrete_aclgraph_entries",
        "ACLGraphWrapper.runtime_mode",
        "ACLGraphWrapper.unwrap(self)",
        "GraphParams.attn_params",
        "GraphParams.events",
        "GraphParams.handles",
        "GraphParams.workspaces",
        "_acl_graph_wrappers",
        "get_graph_params()",
    ),
    "vllm_ascend.platform": (
        "NPUPlatform.device_name",
        "NPUPlatform.get_static_graph_wrapper_cls(cls)",
        "NPUPlatform.ray_device_key",
        "text:vllm_ascend.xlite.xlite_worker.XliteWorker",
        "text:vllm_ascend.worker.worker.NPUWorker",
    ),
    "vllm_ascend.worker.model_runner_v1": (
        "NPUModelRunner._dummy_run(self, num_tokens, cudagraph_runtime_mode, force_attention, skip_eplb)",
        "NPUModelRunner.capture_model(self)",
        "NPUModelRunner.get_model(self)",
    ),
    "vllm_ascend.worker.worker": ("NPUWorker.compile_or_warm_up_model(self)", "NPUWorker.model_runner"),
    "vllm_ascend.xlite.xlite": (
        "XliteWrapper.full_mode",
        "XliteWrapper.register_kv_caches(self, kv_caches)",
        "XliteWrapper.runnable",
        "XliteWrapper.unwrap(self)",
        "text:Glm4MoeForCausalLM",
        "text:LlamaForCausalLM",
        "text:MiniMaxM2ForCausalLM",
        "text:Qwen2ForCausalLM",
        "text:Qwen3ForCausalLM",
        "text:Qwen3MoeForCausalLM",
        "text:Qwen3VLForConditionalGeneration",
        "text:Qwen3VLMoeForConditionalGeneration",
    ),
    "vllm_ascend.xlite.xlite_model_runner": ("XliteModelRunner.xlite_model", "XliteModelRunner.get_model(self)"),
    "vllm_ascend.xlite.xlite_worker": ("XliteWorker",),
}

TORCH_NPU: Table = {
    "torch_npu.dynamo.npugraph_ex._acl_concrete_graph.static_kernel": (
        "text:: starting static kernel compilation for multi card, the build directory is ",
        "text:Starting static kernel compilation, the build directory is ",
    ),
    "torch_npu.npu": ("mem_get_info()", "NPUGraph", "graph", "graph_pool_handle"),
    "torch_npu.npu.graphs": (
        "NPUGraph.capture_begin(self, pool, capture_error_mode)",
        "NPUGraph.capture_end(self)",
        "NPUGraph.pool(self)",
        "NPUGraph.replay(self)",
        "NPUGraph.reset(self)",
        "graph.__init__(self, npu_graph, pool, stream, capture_error_mode)",
        "graph_pool_handle()",
    ),
}

XLITE: Table = {
    "xlite._C": (
        "AttnMeta",
        "Model.forward",
        "Model.get_tensor_pool_size(self)",
        "ModelConfig",
        "Runtime.init_tensor_pool(self, size)",
    ),
}
"""``xlite._C`` is imported to see whether it can be; the rest is what vllm-ascend's wrapper calls on our behalf."""

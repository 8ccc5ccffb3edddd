"""The texts with which torch_npu and CANN report failures: what classifies them sees what a device would say.

Sources: the capture error of the Ascend documentation on stream resources, error codes of CANN's ``rt_error_codes.h``
(107027 stream is captured, 107030 not in this capture mode, 507903 capture is invalidated, 207005 and 207008 resources,
507015 aicore exception), and texts that users of torch_npu reported.
"""

from __future__ import annotations

import os
import time

import torch

_CALL = "NPU function error: c10_npu::acl::"


def stream_exhausted(rank: int) -> RuntimeError:
    """``capture_begin`` finds fewer streams than the graph needs."""
    return RuntimeError(
        f"capture_begin:build/CMakeFiles/torch_npu.dir/NPUGraph.cpp:230 {_CALL}"
        "AclmdlRICaptureBegin(capture_stream_, capture_mode), error code is 207008\n"
        f"{_header(rank)}"
        "[Error]: Stream resources are insufficient.\n"
        f"[PID: {os.getpid()}] Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.\n"
        "        Solution: Close applications not in use.\n"
        "        begin capture stream failed, runtime result = 207008"
    )


def old_hdk(rank: int) -> RuntimeError:
    """The driver cannot allocate queues for one more captured stream."""
    return RuntimeError(
        f"capture_begin:build/CMakeFiles/torch_npu.dir/NPUGraph.cpp:156 {_CALL}"
        "AclmdlRICaptureBegin(capture_stream_, capture_mode), error code is 207005\n"
        f"{_header(rank)}"
        "[Error]: Failed to apply for memory.\n"
        "EE9999: Inner Error!\n"
        "        [SqCqManage]Alloc sq cq fail, stream_id=1088, retCode=0x7020023.[FUNC:Setup][FILE:stream.cc][LINE:653]"
    )


def not_capturable(rank: int, operation: str) -> RuntimeError:
    """``operation`` needs the host to wait for a stream that is being captured."""
    return RuntimeError(
        f"operator():build/CMakeFiles/torch_npu.dir/LocalScalarDenseNpu.cpp:23 {_CALL}"
        "AclrtSynchronizeStreamWithTimeout(copy_stream), error code is 107027\n"
        f"{_header(rank)}"
        f"EE9999: Inner Error!\n"
        f"        Not allow to synchronize captured-stream ({operation}).[FUNC:StreamSynchronize]\n"
        "        rtStreamSynchronizeWithTimeout execution failed, reason=stream is captured"
    )


def forbidden(rank: int, operation: str) -> RuntimeError:
    """``operation`` works outside of streams, which the capture mode does not allow."""
    return RuntimeError(
        f"copy_between_host_and_device_opapi:build/CMakeFiles/torch_npu.dir/CopyKernelOpApi.cpp:89 {_CALL}"
        "aclrtMemcpy, error code is 107030\n"
        f"{_header(rank)}"
        f"EE9999: Inner Error!\n        rtMemcpy execution failed ({operation}), "
        "reason=the current capture mode does not support this operation"
    )


def capture_spoilt(rank: int) -> RuntimeError:
    """``capture_end`` finds that an operation of the capture was refused."""
    return RuntimeError(
        "capture_end:build/CMakeFiles/torch_npu.dir/NPUGraph.cpp:371 NPU function error: endCaptureErr, "
        f"error code is 507903\n{_header(rank)}"
        "EE9999: Inner Error!\n        rtStreamEndCapture execution failed, reason=capture is invalidated"
    )


def out_of_memory(rank: int) -> torch.OutOfMemoryError:
    """The device's memory is used up."""
    return torch.OutOfMemoryError(
        f"NPU out of memory. Tried to allocate 52.00 MiB (NPU {rank}; 60.96 GiB total capacity; 59.36 GiB already "
        "allocated; 59.36 GiB current active; 19.52 MiB free; 60.21 GiB reserved in total by PyTorch) If reserved "
        "memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation."
    )


def device_fault(rank: int) -> RuntimeError:
    """A kernel failed on the device."""
    return RuntimeError(
        f"synchronize:build/CMakeFiles/torch_npu.dir/NPUStream.cpp:361 {_CALL}"
        "AclrtSynchronizeStreamWithTimeout(stream()), error code is 507015\n"
        f"{_header(rank)}"
        "[Error]: The aicore execution is abnormal.\n"
        "        Rectify the fault based on the error information in the ascend log.\n"
        "EE9999: Inner Error!\n"
        "        rtStreamSynchronizeWithTimeout execution failed, reason=aicore exception"
    )


def unknown(rank: int) -> RuntimeError:
    """A failure that no rule knows."""
    return RuntimeError(
        f"operator():build/CMakeFiles/torch_npu.dir/OpCommand.cpp:117 {_CALL}"
        "AclopCompileAndExecute, error code is 500002\n"
        f"{_header(rank)}"
        "[Error]: A GE error occurs in the system.\n"
        "        Rectify the fault based on the error information in the ascend log."
    )


def _header(rank: int) -> str:
    now = time.strftime("%Y-%m-%d-%H:%M:%S")
    return f"[ERROR] {now} (PID:{os.getpid()}, Device:{rank}, RankID:{rank}) ERR00100 PTA call acl api failed\n"

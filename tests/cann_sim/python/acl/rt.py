"""``acl.rt``: runtime calls by their numbers, as pyACL passes them."""

from __future__ import annotations

import ctypes


def memcpy(dst: int, dest_max: int, src: int, count: int, kind: int) -> int:
    """Copy ``count`` bytes from the address ``src`` to ``dst``; an error code of CANN, or 0."""
    return int(
        ctypes.CDLL("libascendcl.so").aclrtMemcpy(
            ctypes.c_void_p(dst), ctypes.c_size_t(dest_max), ctypes.c_void_p(src), ctypes.c_size_t(count), kind
        )
    )

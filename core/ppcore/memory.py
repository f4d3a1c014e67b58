"""A setting of the C library that makes small models on a CPU faster."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks in this process instead of returning them to the kernel.

    Every layer's output is a large block. Without this setting a small model spends a tenth of its time on a CPU, an autoencoder a
    fifth, on getting zeroed pages from the kernel (`benchmarks/generators.py`). Other C libraries are not changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_MMAP_MAX, 0)

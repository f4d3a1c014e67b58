"""How the C library hands memory back, which costs small models on a CPU a tenth of their time."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks for this process instead of giving them back to the kernel each time.

    Every layer's output is a large block; fetching and zeroing its pages anew costs a small model a tenth of its time on a
    CPU, an autoencoder a fifth (`benchmarks/generators.py`). Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_MMAP_MAX, 0)

"""Whether there is an NVIDIA driver, asked of the driver itself: no CUDA library is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Driver:
    """cuda: the newest CUDA that it supports, as CUDA counts: 13000 for 13.0. gpus: how many there are."""

    cuda: int
    gpus: int

    def __str__(self) -> str:
        return f"NVIDIA driver for CUDA {self.cuda // 1000}.{self.cuda % 1000 // 10}, {self.gpus} GPUs"


def find_driver() -> Driver | None:
    """The driver of this machine, or None."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    if library.cuInit(0) != 0 or library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    if library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None
    return Driver(version.value, count.value)


def is_loadable(library: str) -> bool:
    """Whether the system's loader finds a shared library, such as ``libnvinfer.so.10``."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True

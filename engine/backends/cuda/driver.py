"""Queries the NVIDIA driver directly, so that no CUDA library is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Driver:
    """``cuda`` is the newest CUDA version that it supports (13000 for 13.0), ``gpus`` the number of GPUs."""

    cuda: int
    gpus: int

    def __str__(self) -> str:
        return f"NVIDIA driver supports CUDA {self.cuda // 1000}.{self.cuda % 1000 // 10}"


def find_driver() -> Driver | None:
    """The driver of this machine, or None."""
    library = _load()
    if library is None:
        return None
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None
    return Driver(version.value, count.value)


def device_name(number: int) -> str:
    """The name of the GPU ``number``, as the driver reports it; "unknown GPU" if it reports none."""
    library, device, name = _load(), ctypes.c_int(0), ctypes.create_string_buffer(256)
    if library is None or library.cuDeviceGet(ctypes.byref(device), number) != 0:
        return "unknown GPU"
    if library.cuDeviceGetName(name, len(name), device) != 0:
        return "unknown GPU"
    return name.value.decode(errors="replace")


def is_loadable(library: str) -> bool:
    """Whether the system's loader finds a shared library, such as ``libnvinfer.so.10``."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    return library if library.cuInit(0) == 0 else None

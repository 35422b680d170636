"""Queries the NVIDIA driver directly, so that no CUDA library is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

# Attributes of cuDeviceGetAttribute, in cuda.h.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
UNKNOWN = "unknown GPU"


@dataclass(frozen=True)
class Driver:
    """What the driver reports.

    cuda: the newest CUDA version that it supports, 13000 for 13.0.
    gpus: the number of GPUs.
    compute_capabilities: of each GPU, ``"9.0"``; "" where the driver reports none.
    """

    cuda: int
    gpus: int
    compute_capabilities: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"NVIDIA driver supports CUDA {self.cuda // 1000}.{self.cuda % 1000 // 10}"

    def compute_capability(self, number: int) -> str:
        """Of the GPU ``number``; "" if it is not known."""
        return self.compute_capabilities[number] if number < len(self.compute_capabilities) else ""


def find_driver() -> Driver | None:
    """The driver of this machine, or None."""
    library = _load()
    if library is None:
        return None
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return None
    capabilities = tuple(_compute_capability(library, number) for number in range(count.value))
    return Driver(version.value, count.value, capabilities)


def device_name(number: int) -> str:
    """The name of the GPU ``number``, as the driver reports it; "unknown GPU" if it reports none."""
    library, device = _load(), ctypes.c_int(0)
    if library is None or library.cuDeviceGet(ctypes.byref(device), number) != 0:
        return UNKNOWN
    return _name(library, device)


def current_device_name() -> str:
    """The name of the GPU that the calling thread uses; "unknown GPU" if it uses none."""
    library, device = _load(), ctypes.c_int(0)
    if library is None or library.cuCtxGetDevice(ctypes.byref(device)) != 0:
        return UNKNOWN
    return _name(library, device)


def is_loadable(library: str) -> bool:
    """Whether the system's loader finds a shared library, such as ``libnvinfer.so.10``."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _compute_capability(library: ctypes.CDLL, number: int) -> str:
    device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    if library.cuDeviceGet(ctypes.byref(device), number) != 0:
        return ""
    for attribute, value in ((CAPABILITY_MAJOR, major), (CAPABILITY_MINOR, minor)):
        if library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return ""
    return f"{major.value}.{minor.value}"


def _name(library: ctypes.CDLL, device: ctypes.c_int) -> str:
    name = ctypes.create_string_buffer(256)
    if library.cuDeviceGetName(name, len(name), device) != 0:
        return UNKNOWN
    return name.value.decode(errors="replace")


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    return library if library.cuInit(0) == 0 else None

"""A stand-in for ``libcuda``, called through ctypes as the real one is: the GPUs of a machine that the test describes.

It keeps the types and codes of cuda.h: results are numbers, values are written to addresses, and 101 is
CUDA_ERROR_INVALID_DEVICE.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

SUCCESS, INVALID_VALUE, INVALID_DEVICE, INVALID_CONTEXT = 0, 1, 101, 201
HANDLE = 1000  # a device handle is not its number


@dataclass
class FakeDriver:
    """``gpus`` are names and compute capabilities; ``current`` is the GPU of the calling thread."""

    gpus: list[tuple[str, str]] = field(default_factory=list)
    cuda: int = 13000
    current: int | None = None

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.cuda
        return SUCCESS

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return SUCCESS

    def cuDeviceGet(self, device: Any, number: int) -> int:
        if not 0 <= number < len(self.gpus):
            return INVALID_DEVICE
        device._obj.value = HANDLE + number
        return SUCCESS

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:
        if attribute not in (75, 76):
            return INVALID_VALUE
        capability = self.gpus[device.value - HANDLE][1].split(".")
        value._obj.value = int(capability[attribute - 75])
        return SUCCESS

    def cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:
        text = self.gpus[device.value - HANDLE][0].encode()
        assert len(text) < size
        name.value = text
        return SUCCESS

    def cuCtxGetDevice(self, device: Any) -> int:
        if self.current is None:
            return INVALID_CONTEXT
        device._obj.value = HANDLE + self.current
        return SUCCESS

"""A stand-in for ``pycuda`` that keeps its rules for contexts, as its ``src/cpp/cuda.hpp`` has them.

- pycuda has a stack of contexts for each thread, beside CUDA's own. Of pycuda's, only the top one is on CUDA's stack.
- A thread that ends with a context on its stack aborts the process (``~context_stack``); here the abort is recorded.
- Memory is allocated in CUDA's current context, which another library may have set.
- What belongs to a context cannot be freed in a thread in which another one is current.
"""

from __future__ import annotations

import itertools
import sys
import threading
import types
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest


class Error(Exception):
    """pycuda.driver.Error."""


class MemoryError(Error):
    """pycuda.driver.MemoryError."""


class LogicError(Error):
    """pycuda.driver.LogicError."""


class Context:
    """A context of pycuda, of the GPU ``device``."""

    owner: FakePycuda

    def __init__(self, device: int) -> None:
        self.device = device

    def push(self) -> None:
        stack, cuda = self.owner.stack, self.owner.cuda_stack
        if stack.contexts:
            cuda.pop()  # only the top one of pycuda's is on CUDA's stack
        cuda.append(self)
        stack.contexts.append(self)

    @classmethod
    def pop(cls) -> None:
        stack, cuda = cls.owner.stack, cls.owner.cuda_stack
        if not stack.contexts:
            raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
        cuda.pop()
        stack.contexts.pop()
        if stack.contexts:
            cuda.append(stack.contexts[-1])

    @classmethod
    def get_current(cls) -> Context | None:
        """CUDA's current context, whoever made it."""
        cuda = cls.owner.cuda_stack
        return cuda[-1] if cuda else None


class _Stack:
    """pycuda's stack of one thread."""

    def __init__(self, owner: FakePycuda) -> None:
        self.owner = owner
        self.contexts: list[Context] = []

    def __del__(self) -> None:
        if self.contexts:
            self.owner.aborted = True


class _Resource:
    """Something in CUDA's current context."""

    def __init__(self, owner: FakePycuda, handle: int) -> None:
        self.owner, self.handle, self.context = owner, handle, owner.current()

    def __int__(self) -> int:
        return self.handle

    def free(self) -> None:
        if self.owner.current() is not self.context:
            raise LogicError("cannot activate out-of-thread context")

    def synchronize(self) -> None:
        self.free()


class _Event(_Resource):
    """An event; waiting for it is waiting for the stream in which it was recorded."""

    stream: _Resource | None = None

    def record(self, stream: _Resource) -> _Event:
        self.stream = stream
        return self

    def synchronize(self) -> None:
        assert self.stream is not None, "an event is waited for that was not recorded"
        self.stream.synchronize()


class FakePycuda(types.ModuleType):
    """The module ``pycuda.driver``, with ``total`` bytes on each GPU."""

    Error, MemoryError, LogicError = Error, MemoryError, LogicError
    device_attribute = types.SimpleNamespace(MULTIPROCESSOR_COUNT=16)
    event_flags = types.SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)

    def __init__(self, gpus: int = 2, total: int = 10**9) -> None:
        super().__init__("pycuda.driver")
        self.gpus, self.total = gpus, total
        self.aborted = False
        self.memory: dict[int, int] = {}  # address: device
        self.primary: dict[int, Context] = {}
        self.Context = type("Context", (Context,), {"owner": self})
        self._thread = threading.local()
        self._numbers = itertools.count(1)

    @property
    def stack(self) -> _Stack:
        if not hasattr(self._thread, "stack"):
            self._thread.stack = _Stack(self)
        stack: _Stack = self._thread.stack
        return stack

    @property
    def cuda_stack(self) -> list[Any]:
        """CUDA's own, of the calling thread; another library may have contexts on it."""
        if not hasattr(self._thread, "cuda"):
            self._thread.cuda = []
        stack: list[Any] = self._thread.cuda
        return stack

    def current(self) -> Any:
        if not self.cuda_stack:
            raise LogicError("invalid device context - no currently active context?")
        return self.cuda_stack[-1]

    def init(self) -> None:
        if not self.gpus:
            raise Error("cuInit failed: no CUDA-capable device is detected")

    def mem_get_info(self) -> tuple[int, int]:
        self.current()
        return self.total, self.total

    def mem_alloc(self, size: int) -> _Resource:
        if size > self.total:
            raise MemoryError("cuMemAlloc failed: out of memory")
        allocation = _Resource(self, next(self._numbers) << 32)
        self.memory[allocation.handle] = allocation.context.device
        return allocation

    def pagelocked_empty(self, size: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        self.current()
        return np.empty(size, dtype)

    def Stream(self) -> _Resource:
        return _Resource(self, next(self._numbers))

    def Event(self, flags: int) -> _Event:
        assert flags == self.event_flags.BLOCKING_SYNC | self.event_flags.DISABLE_TIMING
        return _Event(self, next(self._numbers))

    def memcpy_htod_async(self, address: int, source: Any, stream: _Resource) -> None:
        if self.memory[address] != self.current().device:
            raise LogicError("cuMemcpyHtoDAsync failed: invalid argument")

    @property
    def Device(self) -> Any:
        driver = self

        class Device:
            def __init__(self, number: int) -> None:
                self.number = number

            @staticmethod
            def count() -> int:
                return driver.gpus

            def name(self) -> str:
                return f"GPU {self.number}"

            def compute_capability(self) -> tuple[int, int]:
                return 9, 0

            def get_attribute(self, attribute: int) -> int:
                return {16: 132}[attribute]

            def retain_primary_context(self) -> Context:
                context: Context = driver.primary.setdefault(self.number, driver.Context(self.number))
                return context

        return Device


def install(monkeypatch: pytest.MonkeyPatch, driver: FakePycuda) -> None:
    """Make it the ``pycuda.driver`` that is imported."""
    package = types.ModuleType("pycuda")
    package.VERSION_TEXT = "2026.1"  # type: ignore[attr-defined]
    package.driver = driver  # type: ignore[attr-defined]
    for module in (package, driver):
        monkeypatch.setitem(sys.modules, module.__name__, module)

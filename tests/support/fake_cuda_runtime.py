"""A stand-in for ``cuda.bindings`` that keeps CUDA's rules for devices, contexts, last errors and stream capture.

Results are tuples as in cuda-python: an error, then values. The rules are those of NVIDIA's manual of the runtime:

- Each thread has a stack of contexts. The runtime uses the top one; where there is none, it makes the primary context
  of device 0 and puts it there. ``cudaSetDevice`` replaces the top one. What a thread allocates lies in its context.
- A call that fails sets the last error of its thread, which stays until ``cudaGetLastError`` takes it.
- The legacy stream cannot be captured. While a thread captures, synchronising or allocating is an error, and it
  invalidates the capture, which then ends with an error and without a graph.
- A stream in capture runs nothing, and no other work may be synchronised in it until its capture has ended.
"""

from __future__ import annotations

import enum
import importlib.machinery
import itertools
import sys
import threading
import types
from typing import Any

import pytest

LEGACY_STREAM = 0


class cudaError_t(enum.IntEnum):
    """The errors that occur here, with CUDA's numbers."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaStreamCaptureMode(enum.IntEnum):
    """Its only member that is used."""

    cudaStreamCaptureModeThreadLocal = 1


class CUresult(enum.IntEnum):
    """Errors of the driver, with CUDA's numbers."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201


class Context:
    """A context on a device: the primary one, unless another library made it."""

    def __init__(self, device: int) -> None:
        self.device = device


class cudaGraph_t(int):
    """A handle: it is true even if it is null, as in cuda-python."""

    def __bool__(self) -> bool:
        return True


class FakeRuntime(types.ModuleType):
    """The module; ``total`` bytes on each of its GPUs.

    ``version`` is cuda-python's: 12 raises where there is no driver, and gives a null graph where 13 gives None.
    ``driver`` is the CUDA version that the driver supports, 0 for none.
    """

    cudaError_t = cudaError_t
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaEventBlockingSync, cudaEventDisableTiming = 1, 2

    def __init__(self, gpus: int = 2, version: int = 13000, driver: int = 13000, total: int = 10**9) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpus, self.version, self.driver, self.total = gpus, version, driver, total
        self.memory: dict[int, tuple[int, int]] = {}  # address: device, size
        self.events: dict[int, int | None] = {}  # event: the stream in which it was recorded
        self.graphs: set[int] = set()
        self.executables: set[int] = set()
        self.work: dict[int, int] = {}  # stream: number of steps that have been started and not awaited
        self.capturing: dict[int, bool] = {}  # stream: whether its capture is still valid
        self.instantiate_fails = False
        self.primary: dict[int, Context] = {}  # device: its primary context, once somebody has needed it
        self._thread = threading.local()
        self._numbers = itertools.count(1)

    # Versions and devices

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, self.version

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        if not self.driver and self.version < 13000:
            raise RuntimeError("Failed to dlopen libcuda.so.1")
        return cudaError_t.cudaSuccess, self.driver

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        if not self.gpus:
            return self._fail(cudaError_t.cudaErrorNoDevice)
        return cudaError_t.cudaSuccess, self.gpus

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        name = f"GPU {device}".encode().ljust(256, b"\0")
        return cudaError_t.cudaSuccess, types.SimpleNamespace(name=name, major=9, minor=0, multiProcessorCount=132)

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        if not 0 <= device < self.gpus:
            return self._fail(cudaError_t.cudaErrorInvalidDevice)
        self.contexts[-1:] = [self.primary_of(device)]
        return (cudaError_t.cudaSuccess,)

    @property
    def contexts(self) -> list[Context]:
        """The stack of the calling thread."""
        if not hasattr(self._thread, "contexts"):
            self._thread.contexts = []
        contexts: list[Context] = self._thread.contexts
        return contexts

    def primary_of(self, device: int) -> Context:
        """The primary context of a device, which is made if there is none."""
        return self.primary.setdefault(device, Context(device))

    @property
    def device(self) -> int:
        """The device that a call of the runtime uses in the calling thread."""
        if not self.contexts:
            self.contexts.append(self.primary_of(0))
        return self.contexts[-1].device

    # Errors

    def cudaGetLastError(self) -> tuple[Any, ...]:
        error, self._thread.error = self.last_error, cudaError_t.cudaSuccess
        return (error,)

    def cudaGetErrorName(self, error: cudaError_t) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, f"error {error.value}".encode()

    @property
    def last_error(self) -> cudaError_t:
        """Of the calling thread."""
        return getattr(self._thread, "error", cudaError_t.cudaSuccess)

    def _fail(self, error: cudaError_t) -> tuple[Any, ...]:
        self._thread.error = error
        return error, None

    # Memory

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if self._forbidden():
            return self._fail(cudaError_t.cudaErrorStreamCaptureUnsupported)
        if size > self._free():
            return self._fail(cudaError_t.cudaErrorMemoryAllocation)
        address = next(self._numbers) << 32
        self.memory[address] = self.device, size
        return cudaError_t.cudaSuccess, address

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return cudaError_t.cudaSuccess, self._free(), self.total

    def _free(self) -> int:
        return self.total - sum(size for device, size in self.memory.values() if device == self.device)

    # Streams and capture

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = next(self._numbers)
        self.work[stream] = 0
        return cudaError_t.cudaSuccess, stream

    def start(self, stream: int) -> cudaError_t:
        """Start a step in a stream, as a kernel or a copy does."""
        if stream not in self.capturing:
            self.work[stream] += 1
        elif not self.capturing[stream]:
            return self._fail(cudaError_t.cudaErrorStreamCaptureInvalidated)[0]
        return cudaError_t.cudaSuccess

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        if self._forbidden():
            return self._fail(cudaError_t.cudaErrorStreamCaptureUnsupported)
        self.work[stream] = 0
        return (cudaError_t.cudaSuccess,)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        del self.work[stream]
        return (cudaError_t.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaEventBlockingSync | self.cudaEventDisableTiming
        event = next(self._numbers)
        self.events[event] = None
        return cudaError_t.cudaSuccess, event

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        self.events[event] = stream
        return (cudaError_t.cudaSuccess,)

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        stream = self.events[event]
        assert stream is not None, "an event is waited for that was not recorded"
        return self.cudaStreamSynchronize(stream)

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        del self.events[event]
        return (cudaError_t.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: cudaStreamCaptureMode) -> tuple[Any, ...]:
        assert mode is cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        if stream == LEGACY_STREAM:
            return self._fail(cudaError_t.cudaErrorStreamCaptureUnsupported)
        assert stream not in self.capturing
        self.capturing[stream] = True
        self._thread.captures = stream
        return (cudaError_t.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        if stream not in self.capturing:
            error: tuple[Any, ...] = self._fail(cudaError_t.cudaErrorInvalidValue)
        else:
            self._thread.captures = None
            if self.capturing.pop(stream):
                return cudaError_t.cudaSuccess, self._new(self.graphs)
            error = self._fail(cudaError_t.cudaErrorStreamCaptureInvalidated)
        return error if self.version >= 13000 else (error[0], cudaGraph_t(0))

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        if self.instantiate_fails:
            return self._fail(cudaError_t.cudaErrorMemoryAllocation)
        assert graph in self.graphs
        return cudaError_t.cudaSuccess, self._new(self.executables)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        self.graphs.remove(graph)
        return (cudaError_t.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:
        self.executables.remove(graph)
        return (cudaError_t.cudaSuccess,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:
        assert graph in self.executables
        return (self.start(stream),)

    def _forbidden(self) -> bool:
        """Whether the thread captures, which such a call then invalidates."""
        stream = getattr(self._thread, "captures", None)
        if stream is not None:
            self.capturing[stream] = False
        return stream is not None

    def _new(self, handles: set[int]) -> cudaGraph_t:
        handle = cudaGraph_t(next(self._numbers))
        handles.add(handle)
        return handle


class FakeDriverBindings(types.ModuleType):
    """``cuda.bindings.driver`` for the same GPUs."""

    CUresult = CUresult

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__("cuda.bindings.driver")
        self.runtime = runtime
        self.is_initialised = False

    def cuInit(self, flags: int) -> tuple[Any, ...]:
        self.is_initialised = flags == 0
        return (CUresult.CUDA_SUCCESS,)

    def cuDeviceGet(self, number: int) -> tuple[Any, ...]:
        assert self.is_initialised
        if not 0 <= number < self.runtime.gpus:
            return CUresult.CUDA_ERROR_INVALID_DEVICE, None
        return CUresult.CUDA_SUCCESS, number

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, self.runtime.primary_of(device)

    def cuCtxPushCurrent(self, context: Context) -> tuple[Any, ...]:
        self.runtime.contexts.append(context)
        return (CUresult.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self) -> tuple[Any, ...]:
        if not self.runtime.contexts:
            return CUresult.CUDA_ERROR_INVALID_CONTEXT, None
        return CUresult.CUDA_SUCCESS, self.runtime.contexts.pop()

    def cuGetErrorName(self, error: CUresult) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, error.name.encode()

    def cuGetErrorString(self, error: CUresult) -> tuple[Any, ...]:
        return CUresult.CUDA_SUCCESS, f"error {error.value}".encode()


def install(monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime) -> None:
    """Make it the ``cuda.bindings.runtime`` that is imported, with the driver of the same GPUs."""
    driver = FakeDriverBindings(runtime)
    bindings = types.ModuleType("cuda.bindings")
    bindings.__version__ = f"{runtime.version // 1000}.0"  # type: ignore[attr-defined]
    bindings.runtime, bindings.driver = runtime, driver  # type: ignore[attr-defined]
    cuda = types.ModuleType("cuda")
    cuda.bindings = bindings  # type: ignore[attr-defined]
    for module in (cuda, bindings, runtime, driver):
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)

"""CUDA through NVIDIA's cuda-python (``cuda.bindings``)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from modernrank.errors import BackendError, ProviderError

from .api import Bytes, CaptureError, Cuda, out_of_memory

NO_DRIVER = "there is no NVIDIA driver on this machine; install one, or use provider='cpu'"


class CudaPython(Cuda):
    """One GPU through ``cuda.bindings.runtime``.

    Args:
        device: its number.
        sleeps: whether a thread that waits sleeps; otherwise it spins, which takes a core and notices the end sooner.
    """

    has_graphs = True

    def __init__(self, device: int, sleeps: bool = False) -> None:
        import cuda.bindings
        from cuda.bindings import driver, runtime

        self._rt: Any = runtime
        self._sleeps = sleeps
        self._events: dict[int, Any] = {}  # by stream, of threads that sleep
        self._driver: Any = driver
        self.library = f"cuda-python {cuda.bindings.__version__}"
        self._check_driver()
        count = self._count()
        if device >= count:
            raise ProviderError(
                f"GPU {device} was requested, but this machine has only {count}; choose a lower number",
                device=device,
                count=count,
            )
        properties = self._call(runtime.cudaGetDeviceProperties, device)
        self.name = properties.name.split(b"\0")[0].decode()
        self.compute_capability = f"{properties.major}.{properties.minor}"
        self.multiprocessors = int(properties.multiProcessorCount)
        self._call_driver(driver.cuInit, 0)
        gpu = self._call_driver(driver.cuDeviceGet, device)
        self._context = self._call_driver(driver.cuDevicePrimaryCtxRetain, gpu)  # the one that the runtime uses

    def _check_driver(self) -> None:
        runtime = self._call(self._rt.cudaRuntimeGetVersion)
        try:
            driver = self._call(self._rt.cudaDriverGetVersion)
        except RuntimeError as error:  # of cuda-python 12, which cannot open the driver's library; 13 answers 0
            raise ProviderError(f"{NO_DRIVER} ({error})") from error
        if driver == 0:
            raise ProviderError(NO_DRIVER)
        if driver // 1000 < runtime // 1000:
            raise ProviderError(
                f"the NVIDIA driver supports CUDA {_version(driver)}, but {self.library} requires {_version(runtime)}; "
                f"update the driver, or install cuda-python {driver // 1000}"
            )

    def _count(self) -> int:
        try:
            return int(self._call(self._rt.cudaGetDeviceCount))
        except BackendError as error:
            raise ProviderError(
                f"CUDA cannot start: {error}; update the NVIDIA driver, or use provider='cpu'"
            ) from error

    @contextmanager
    def active(self) -> Iterator[None]:
        # Not cudaSetDevice: a thread that used no GPU yet counts as one that uses GPU 0, and setting that one again
        # afterwards would make a context there, which takes memory. A context of another library would be lost, too.
        self._call_driver(self._driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            self._call_driver(self._driver.cuCtxPopCurrent)

    def memory(self) -> tuple[int, int]:
        free, total = self._call(self._rt.cudaMemGetInfo)
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        error, address = self._rt.cudaMalloc(size)
        if error == self._rt.cudaError_t.cudaErrorMemoryAllocation:
            self._forget_error()
            raise out_of_memory(size, *self.memory())
        self._check(error, "cudaMalloc")
        return int(address)

    def free(self, address: int) -> None:
        self._call(self._rt.cudaFree, address)

    def pinned(self, size: int) -> Bytes:
        address = self._call(self._rt.cudaHostAlloc, size, 0)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def free_pinned(self, buffer: Bytes) -> None:
        self._call(self._rt.cudaFreeHost, buffer.ctypes.data)

    def create_stream(self) -> int:
        return int(self._call(self._rt.cudaStreamCreateWithFlags, self._rt.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        event = self._events.pop(stream, None)
        if event is not None:
            self._call(self._rt.cudaEventDestroy, event)
        self._call(self._rt.cudaStreamDestroy, stream)

    def to_device(self, address: int, source: Bytes, stream: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._rt.cudaMemcpyAsync, address, source.ctypes.data, source.nbytes, kind, stream)

    def to_host(self, target: Bytes, address: int, stream: int) -> None:
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._rt.cudaMemcpyAsync, target.ctypes.data, address, target.nbytes, kind, stream)

    def synchronize(self, stream: int) -> None:
        if not self._sleeps:
            self._call(self._rt.cudaStreamSynchronize, stream)
            return
        if stream not in self._events:
            flags = self._rt.cudaEventBlockingSync | self._rt.cudaEventDisableTiming
            self._events[stream] = self._call(self._rt.cudaEventCreateWithFlags, flags)
        self._call(self._rt.cudaEventRecord, self._events[stream], stream)
        self._call(self._rt.cudaEventSynchronize, self._events[stream])

    def capture(self, stream: int, work: Callable[[], None]) -> Any:
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        graph = captured = None
        try:
            self._call(self._rt.cudaStreamBeginCapture, stream, mode)
            try:
                work()
            finally:  # also if the work fails, because the stream must not stay in capture
                error, graph = self._rt.cudaStreamEndCapture(stream)
            self._check(error, "cudaStreamEndCapture")
            captured = self._call(self._rt.cudaGraphInstantiate, graph, 0)
        except BackendError as failure:
            raise CaptureError(f"this work cannot be captured as a CUDA graph: {failure}") from failure
        finally:
            if graph is not None and int(graph) != 0:  # cuda-python 12 gives a null graph after a failure, 13 none
                self._rt.cudaGraphDestroy(graph)
            if captured is None:
                self._forget_error()
        return captured

    def launch(self, graph: Any, stream: int) -> None:
        self._call(self._rt.cudaGraphLaunch, graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._call(self._rt.cudaGraphExecDestroy, graph)

    def _call(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
        error, *results = function(*arguments)
        self._check(error, function.__name__)
        return results[0] if len(results) == 1 else results

    def _call_driver(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
        error, *results = function(*arguments)
        if error != self._driver.CUresult.CUDA_SUCCESS:
            _, name = self._driver.cuGetErrorName(error)
            _, text = self._driver.cuGetErrorString(error)
            raise BackendError(f"{function.__name__} failed: {name.decode()}: {text.decode()}")
        return results[0] if len(results) == 1 else results

    def _check(self, error: Any, what: str) -> None:
        if error != self._rt.cudaError_t.cudaSuccess:
            self._forget_error()
            _, name = self._rt.cudaGetErrorName(error)
            _, text = self._rt.cudaGetErrorString(error)
            raise BackendError(f"{what} failed: {name.decode()}: {text.decode()}")

    def _forget_error(self) -> None:
        # CUDA keeps a thread's last error, and the next check of any library would report it as its own.
        self._rt.cudaGetLastError()


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"

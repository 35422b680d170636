"""CUDA through pycuda, for services that have it already. It is compiled when it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from modernrank.errors import BackendError, ProviderError

from .api import Bytes, Cuda, out_of_memory


class PyCuda(Cuda):
    """One GPU through ``pycuda.driver``. It offers no CUDA graphs; the arguments are those of ``CudaPython``."""

    has_graphs = False

    def __init__(self, device: int, sleeps: bool = False) -> None:
        import pycuda
        import pycuda.driver as driver

        self._driver: Any = driver
        self.library = f"pycuda {pycuda.VERSION_TEXT}"
        try:
            driver.init()
            count = driver.Device.count()
        except driver.Error as error:
            raise ProviderError(f"CUDA cannot start: {error}; install or update the NVIDIA driver") from error
        if device >= count:
            raise ProviderError(
                f"GPU {device} was requested, but this machine has only {count}; choose a lower number",
                device=device,
                count=count,
            )
        gpu = driver.Device(device)
        self.name = gpu.name()
        self.compute_capability = ".".join(map(str, gpu.compute_capability()))
        self.multiprocessors = int(gpu.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT))
        self._context = gpu.retain_primary_context()
        self._sleeps = sleeps
        self._streams: dict[int, Any] = {}
        self._allocations: dict[int, Any] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        # Always, because the thread's context may be another GPU's or another library's. And always undone, because
        # pycuda keeps a stack of contexts for each thread and aborts the process if a thread ends with one in it.
        with self._errors("Context.push"):
            self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def memory(self) -> tuple[int, int]:
        with self._errors("mem_get_info"):
            free, total = self._driver.mem_get_info()
        return free, total

    def allocate(self, size: int) -> int:
        try:
            with self._errors("mem_alloc"):
                allocation = self._driver.mem_alloc(size)
        except self._driver.MemoryError as error:
            raise out_of_memory(size, *self.memory()) from error
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        with self._errors("mem_free"):
            self._allocations.pop(address).free()

    def pinned(self, size: int) -> Bytes:
        with self._errors("pagelocked_empty"):
            buffer: Bytes = self._driver.pagelocked_empty(size, np.uint8)
        return buffer

    def free_pinned(self, buffer: Bytes) -> None:
        allocation: Any = buffer.base
        allocation.free()

    def create_stream(self) -> int:
        with self._errors("Stream"):
            stream = self._driver.Stream()
        self._streams[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        # pycuda destroys a stream with its last reference.
        del self._streams[stream]

    def to_device(self, address: int, source: Bytes, stream: int) -> None:
        with self._errors("memcpy_htod_async"):
            self._driver.memcpy_htod_async(address, source, self._stream(stream))

    def to_host(self, target: Bytes, address: int, stream: int) -> None:
        with self._errors("memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(target, address, self._stream(stream))

    def synchronize(self, stream: int) -> None:
        waited_for = self._stream(stream)
        with self._errors("synchronize"):
            if self._sleeps:
                flags = self._driver.event_flags.BLOCKING_SYNC | self._driver.event_flags.DISABLE_TIMING
                waited_for = self._driver.Event(flags).record(waited_for)
            waited_for.synchronize()

    def capture(self, stream: int, work: Callable[[], None]) -> Any:
        raise ProviderError(f"{self.library} does not support CUDA graphs; install cuda-python")

    def launch(self, graph: Any, stream: int) -> None:
        raise ProviderError(f"{self.library} does not support CUDA graphs; install cuda-python")

    def destroy_graph(self, graph: Any) -> None:
        raise ProviderError(f"{self.library} does not support CUDA graphs; install cuda-python")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Raise pycuda's errors as ours, except too little memory: only the caller knows how much it requested."""
        try:
            yield
        except self._driver.MemoryError:
            raise
        except self._driver.Error as error:
            raise BackendError(f"{what} failed: {error}") from error

    def _stream(self, handle: int) -> Any:
        if handle not in self._streams:
            raise ProviderError(f"{self.library} cannot use a stream of another library; install cuda-python")
        return self._streams[handle]

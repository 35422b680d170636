"""The few functions of CUDA that a session needs, behind one contract, and which library provides them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modernrank.errors import ProviderError

Bytes = npt.NDArray[np.uint8]
INSTALL = "pip install 'modernrank[tensorrt]' (it brings cuda-python; pycuda is taken where that is what is there)"


class Cuda(Protocol):
    """One GPU. Addresses, streams and events are the integers that CUDA's own handles are.

    Copies, kernels and graphs given to a stream run in order; nothing is done before ``synchronize`` returns.
    Every method raises ``ProviderError`` with CUDA's own words where CUDA fails.
    """

    name: str
    compute_capability: str  # "9.0"
    library: str  # "cuda-python 13.0"
    has_graphs: bool  # whether ``capture`` is offered

    def activate(self) -> None:
        """Make the calling thread work with this GPU; each thread needs it before its other calls."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        ...

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes on the GPU."""
        ...

    def free(self, address: int) -> None:
        """Give back what ``allocate`` gave."""
        ...

    def pinned(self, size: int) -> Bytes:
        """``size`` bytes of the host that the GPU copies from and to directly."""
        ...

    def free_pinned(self, buffer: Bytes) -> None:
        """Give back what ``pinned`` gave."""
        ...

    def create_stream(self) -> int:
        """A stream."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""
        ...

    def to_device(self, address: int, source: Bytes, stream: int) -> None:
        """Copy pinned bytes to the GPU."""
        ...

    def to_host(self, target: Bytes, address: int, stream: int) -> None:
        """Copy from the GPU to pinned bytes."""
        ...

    def synchronize(self, stream: int) -> None:
        """Wait for all that was given to a stream."""
        ...

    def capture(self, stream: int, work: Callable[[], None]) -> Any:
        """A CUDA graph of what ``work`` gives to the stream, which is not run now."""
        ...

    def launch(self, graph: Any, stream: int) -> None:
        """Run a graph."""
        ...

    def destroy_graph(self, graph: Any) -> None:
        """Give it back."""
        ...


def find_cuda_library() -> str | None:
    """What ``open_cuda`` uses: ``"cuda-python"``, else ``"pycuda"``; None where neither is installed."""
    if importlib.util.find_spec("cuda") and importlib.util.find_spec("cuda.bindings"):
        return "cuda-python"
    return "pycuda" if importlib.util.find_spec("pycuda") else None


def open_cuda(device: int = 0) -> Cuda:
    """The GPU number ``device``, through cuda-python or else pycuda.

    Raises:
        ProviderError: neither is installed, or there is no driver, no such GPU, or a driver that is too old.
    """
    library = find_cuda_library()
    if library == "cuda-python":
        from .with_cuda_python import CudaPython

        return CudaPython(device)
    if library == "pycuda":
        from .with_pycuda import PyCuda

        return PyCuda(device)
    raise ProviderError(f"no library for CUDA is installed. To get one: {INSTALL}")


def too_large(size: int, free: int, total: int) -> str:
    """What to say where the GPU's memory does not suffice."""
    return (
        f"{size / 1e6:,.0f} MB of GPU memory were asked for, {free / 1e6:,.0f} of {total / 1e6:,.0f} MB are free: "
        "build an engine with smaller profiles (modernrank tensorrt --profile short=16x512), or load with fewer streams"
    )

"""The few functions of CUDA that TensorRT engines need, behind one contract."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modernrank.errors import BackendError

Bytes = npt.NDArray[np.uint8]


class CaptureError(BackendError):
    """Work could not be captured as a CUDA graph. The stream is usable, and no error is left behind in CUDA."""


class Cuda(Protocol):
    """One GPU. Addresses and streams are integers, as CUDA's own handles are.

    Copies, kernels and CUDA graphs of a stream run in order; they may still run until ``synchronize`` returns. Every
    method raises ``BackendError`` with CUDA's own message if CUDA fails.
    """

    name: str
    compute_capability: str  # "9.0"
    multiprocessors: int
    library: str  # "cuda-python 13.0"
    has_graphs: bool  # whether ``capture`` is supported

    def active(self) -> AbstractContextManager[None]:
        """Make the calling thread use this GPU inside the block; the other methods must be called in one.

        Afterwards the thread has the GPU that it had before.
        """
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        ...

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes on the GPU."""
        ...

    def free(self, address: int) -> None:
        """Free what ``allocate`` returned."""
        ...

    def pinned(self, size: int) -> Bytes:
        """``size`` bytes of page-locked host memory, which the GPU copies directly."""
        ...

    def free_pinned(self, buffer: Bytes) -> None:
        """Free what ``pinned`` returned."""
        ...

    def create_stream(self) -> int:
        """A new stream."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Destroy what ``create_stream`` returned."""
        ...

    def to_device(self, address: int, source: Bytes, stream: int) -> None:
        """Copy pinned bytes to the GPU."""
        ...

    def to_host(self, target: Bytes, address: int, stream: int) -> None:
        """Copy from the GPU to pinned bytes."""
        ...

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream has ended."""
        ...

    def capture(self, stream: int, work: Callable[[], None]) -> Any:
        """Capture what ``work`` starts in the stream as a CUDA graph. Nothing of it runs now.

        Raises:
            CaptureError: CUDA cannot capture the work, or ``work`` raised a ``BackendError``.
        """
        ...

    def launch(self, graph: Any, stream: int) -> None:
        """Run a CUDA graph in a stream."""
        ...

    def destroy_graph(self, graph: Any) -> None:
        """Destroy what ``capture`` returned."""
        ...


def out_of_memory(size: int, free: int, total: int) -> BackendError:
    """The error for a GPU whose memory is too small."""
    return BackendError(
        f"{size / 1e6:,.0f} MB of GPU memory were requested, but only {free / 1e6:,.0f} of {total / 1e6:,.0f} MB are "
        "free; build an engine with smaller profiles (modernrank build-engine --profile short=16x512), or load with "
        "fewer workers",
        requested=size,
        free=free,
        total=total,
    )

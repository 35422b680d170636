"""Which Python library gives access to CUDA: cuda-python, else pycuda."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from modernrank.errors import ProviderError

from .api import Cuda

INSTALL = "pip install 'modernrank[tensorrt]' (it installs cuda-python; pycuda is used where only that is installed)"


def find_cuda_library() -> str | None:
    """The library that ``open_cuda`` uses: ``"cuda-python"``, else ``"pycuda"``; None if neither is installed."""
    if importlib.util.find_spec("cuda") and importlib.util.find_spec("cuda.bindings"):
        return "cuda-python"
    return "pycuda" if importlib.util.find_spec("pycuda") else None


def cuda_major() -> int:
    """The version of CUDA that the driver must support for cuda-python; 0 for pycuda, which says so when it starts."""
    if find_cuda_library() != "cuda-python":
        return 0
    try:
        return int(importlib.metadata.version("cuda-bindings").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:  # it was not installed by pip
        return 0


def open_cuda(device: int = 0, sleeps: bool = False) -> Cuda:
    """The GPU number ``device``, through cuda-python or else pycuda.

    Args:
        device: its number.
        sleeps: whether a thread that waits for the GPU sleeps, and does not spin.

    Raises:
        ProviderError: neither is installed, or there is no driver, no such GPU, or a driver that is too old.
    """
    library = find_cuda_library()
    if library == "cuda-python":
        from .with_cuda_python import CudaPython

        return CudaPython(device, sleeps)
    if library == "pycuda":
        from .with_pycuda import PyCuda

        return PyCuda(device, sleeps)
    raise ProviderError(f"no Python library for CUDA is installed. To get one: {INSTALL}")

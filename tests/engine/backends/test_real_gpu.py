"""cuda-python on a real GPU, where there is one: the rules that the stand-in keeps are CUDA's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from modernrank import BackendError
from modernrank.backends.cuda import driver
from modernrank.backends.cuda.api import CaptureError, Cuda
from modernrank.backends.cuda.choose import find_cuda_library

pytestmark = pytest.mark.skipif(
    driver.find_driver() is None or find_cuda_library() != "cuda-python", reason="there is no GPU with cuda-python"
)
LEGACY_STREAM = 0


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    from modernrank.backends.cuda.with_cuda_python import CudaPython

    gpu = CudaPython(0)
    with gpu.active():
        yield gpu


def last_error() -> int:
    from cuda.bindings import runtime

    (error,) = runtime.cudaPeekAtLastError()
    return int(error)


def copied(cuda: Cuda, stream: int, value: int) -> bool:
    """Whether a copy to the GPU and back works in a stream."""
    size = 1024
    address, there, back = cuda.allocate(size), cuda.pinned(size), cuda.pinned(size)
    there[:], back[:] = value, 0
    cuda.to_device(address, there, stream)
    cuda.to_host(back, address, stream)
    cuda.synchronize(stream)
    is_same = bool(np.all(back == value))
    cuda.free(address)
    cuda.free_pinned(there)
    cuda.free_pinned(back)
    return is_same


def test_the_driver_and_cuda_python_describe_the_same_gpu(cuda: Cuda) -> None:
    found = driver.find_driver()
    assert found is not None
    assert found.compute_capability(0) == cuda.compute_capability
    assert driver.device_name(0) == driver.current_device_name() == cuda.name
    assert cuda.multiprocessors > 0


def test_a_thread_that_sleeps_waits_for_a_copy(cuda: Cuda) -> None:
    from modernrank.backends.cuda.with_cuda_python import CudaPython

    sleeping = CudaPython(0, sleeps=True)
    stream = sleeping.create_stream()
    assert all(copied(sleeping, stream, value) for value in range(3))
    sleeping.destroy_stream(stream)


def test_a_capture_is_replayed(cuda: Cuda) -> None:
    stream = cuda.create_stream()
    address, there, back = cuda.allocate(8), cuda.pinned(8), cuda.pinned(8)

    def work() -> None:
        cuda.to_device(address, there, stream)
        cuda.to_host(back, address, stream)

    there[:] = 1
    graph = cuda.capture(stream, work)
    for value in (2, 3):
        there[:] = value
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        assert back.tolist() == [value] * 8
    cuda.destroy_graph(graph)
    cuda.free(address)
    cuda.destroy_stream(stream)


@pytest.mark.parametrize("failure", ["begin", "synchronize", "allocate", "ours"])
def test_a_failed_capture_leaves_the_stream_usable_and_no_error(cuda: Cuda, failure: str) -> None:
    stream = LEGACY_STREAM if failure == "begin" else cuda.create_stream()

    def work() -> None:
        if failure == "synchronize":
            cuda.synchronize(stream)
        if failure == "allocate":
            cuda.allocate(1024)
        if failure == "ours":
            raise BackendError("TensorRT could not start the batch")

    with pytest.raises(CaptureError):
        cuda.capture(stream, work)
    assert last_error() == 0
    assert copied(cuda, stream, 7)


def test_too_little_memory_is_our_error_and_cuda_works_on(cuda: Cuda) -> None:
    _, total = cuda.memory()
    with pytest.raises(BackendError, match="--profile"):
        cuda.allocate(2 * total)
    assert last_error() == 0
    stream = cuda.create_stream()
    assert copied(cuda, stream, 9)
    cuda.destroy_stream(stream)

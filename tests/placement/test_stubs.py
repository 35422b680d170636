"""The stub GPU itself: it notices what CUDA forbids, so that silence in ``test_placement.py`` means something."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from placement.gpu import StubGpu

pytestmark = pytest.mark.placement

GLOBAL, THREAD_LOCAL = 0, 1
TO_DEVICE, ON_DEVICE = 1, 3
UNSUPPORTED, INVALIDATED = 900, 901
BYTES = 4096


class Cuda:
    """A stream, and memory of each kind, on the stub GPU."""

    def __init__(self, gpu: StubGpu) -> None:
        self.gpu = gpu
        self.call = gpu.library
        self.stream, self.device, self.other, self.pinned = (ctypes.c_void_p() for _ in range(4))
        self.pageable = ctypes.create_string_buffer(BYTES)
        assert self.call.cudaStreamCreate(ctypes.byref(self.stream)) == 0
        for address in (self.device, self.other):
            assert self.call.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(BYTES)) == 0
        assert self.call.cudaMallocHost(ctypes.byref(self.pinned), ctypes.c_size_t(BYTES)) == 0
        gpu.reset()

    def copy(self, to: object, source: object, kind: int) -> int:
        return int(self.call.cudaMemcpyAsync(to, source, ctypes.c_size_t(BYTES), kind, self.stream))

    def begin(self, mode: int = GLOBAL) -> None:
        assert self.call.cudaStreamBeginCapture(self.stream, mode) == 0

    def end(self) -> tuple[int, ctypes.c_void_p]:
        graph = ctypes.c_void_p()
        return self.call.cudaStreamEndCapture(self.stream, ctypes.byref(graph)), graph


@pytest.fixture
def cuda(stubs: Path) -> Cuda:
    return Cuda(StubGpu(stubs / "libcudart.so.13"))


FORBIDDEN: dict[str, Callable[[Cuda], int]] = {
    "cudaMalloc": lambda cuda: cuda.call.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(1)),
    "cudaMallocHost": lambda cuda: cuda.call.cudaMallocHost(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(1)),
    "cudaFree": lambda cuda: cuda.call.cudaFree(cuda.other),
    "cudaMemcpy": lambda cuda: cuda.call.cudaMemcpy(cuda.device, cuda.pinned, ctypes.c_size_t(BYTES), TO_DEVICE),
    "cudaMemcpyAsync": lambda cuda: cuda.copy(cuda.device, cuda.pageable, TO_DEVICE),
    "cudaStreamSynchronize": lambda cuda: cuda.call.cudaStreamSynchronize(cuda.stream),
    "cudaDeviceSynchronize": lambda cuda: cuda.call.cudaDeviceSynchronize(),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_cuda_forbids_ends_a_capture_with_an_error(cuda: Cuda, name: str) -> None:
    cuda.begin()
    assert FORBIDDEN[name](cuda) == UNSUPPORTED
    error, graph = cuda.end()
    assert error == INVALIDATED
    assert graph.value is None
    assert cuda.gpu.counts()["forbidden"] == 1
    assert cuda.gpu.counts()["captures"] == 0
    (message,) = cuda.gpu.messages()
    assert message.startswith(f"{name}: ")


def test_a_capture_holds_its_work_until_a_replay(cuda: Cuda) -> None:
    cuda.begin(THREAD_LOCAL)
    assert cuda.copy(cuda.device, cuda.pinned, TO_DEVICE) == 0
    assert cuda.copy(cuda.other, cuda.device, ON_DEVICE) == 0
    error, graph = cuda.end()
    assert error == 0
    executable = ctypes.c_void_p()
    assert cuda.call.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0
    for _ in range(2):
        assert cuda.call.cudaGraphLaunch(executable, cuda.stream) == 0
    counts = cuda.gpu.counts()
    assert (counts["captured_copies_to_device"], counts["captured_copies_on_device"]) == (1, 1)
    assert (counts["replayed_copies_to_device"], counts["replayed_copies_on_device"]) == (2, 2)
    assert (counts["copies_to_device"], counts["copies_on_device"]) == (0, 0)
    assert (counts["captures"], counts["replays"], counts["forbidden"]) == (1, 2, 0)


def test_work_for_another_stream_is_missing_in_the_graph(cuda: Cuda) -> None:
    cuda.begin()
    assert cuda.call.cudaMemsetAsync(cuda.device, 0, ctypes.c_size_t(BYTES), None) == 0
    assert cuda.end()[0] == 0
    assert cuda.gpu.counts()["outside_capture"] == 1


def test_copies_are_told_apart_by_where_memory_lies(cuda: Cuda) -> None:
    cuda.copy(cuda.device, cuda.pinned, TO_DEVICE)
    cuda.copy(cuda.device, cuda.pageable, TO_DEVICE)
    cuda.copy(cuda.other, cuda.device, ON_DEVICE)
    cuda.copy(cuda.pageable, cuda.device, 2)
    counts = cuda.gpu.counts()
    names = ("copies_to_device", "copies_to_device_pageable", "copies_on_device", "copies_to_host")
    assert [counts[name] for name in names] == [1, 1, 1, 1]


class Dimensions(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]


def test_kernels_are_counted_by_name_until_the_next_reset(cuda: Cuda) -> None:
    names = [ctypes.create_string_buffer(name) for name in (b"_Z1av", b"_Z1bv")]
    hosts = [ctypes.create_string_buffer(1) for _ in names]
    one = Dimensions(1, 1, 1)
    for host, name in zip(hosts, names, strict=True):
        getattr(cuda.call, "__cudaRegisterFunction")(None, host, None, name, -1, *[None] * 5)
    for host in (hosts[0], hosts[1], hosts[0]):
        assert cuda.call.cudaLaunchKernel(host, one, one, None, ctypes.c_size_t(0), cuda.stream) == 0
    assert cuda.gpu.kernels() == {"_Z1av": 2, "_Z1bv": 1}
    assert cuda.gpu.counts()["launches"] == 3
    cuda.gpu.reset()
    assert cuda.gpu.kernels() == {}


def test_the_high_water_mark_outlives_the_memory(cuda: Cuda) -> None:
    before = cuda.gpu.counts()["bytes"]
    address, size = ctypes.c_void_p(), 10**9
    assert cuda.call.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size)) == 0
    assert cuda.call.cudaFree(address) == 0
    counts = cuda.gpu.counts()
    assert (counts["bytes"], counts["peak_bytes"]) == (before, before + size)


def test_the_memory_ends(cuda: Cuda) -> None:
    assert cuda.call.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(1 << 40)) == 2


def test_a_function_without_a_stub_fails_and_is_reported(cuda: Cuda, stubs: Path) -> None:
    assert ctypes.CDLL(str(stubs / "libcublas.so.13")).cublasDgemm_v2() != 0
    assert cuda.gpu.counts()["unexpected"] == 1
    assert cuda.gpu.messages()[0].startswith("cublasDgemm_v2: ")

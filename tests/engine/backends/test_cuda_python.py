"""cuda-python on a stand-in for its runtime: devices of threads, failed captures, and machines without a driver."""

from __future__ import annotations

import pytest

from modernrank import BackendError, ProviderError
from modernrank.backends.cuda.api import CaptureError
from modernrank.backends.cuda.with_cuda_python import CudaPython
from support.fake_cuda_runtime import LEGACY_STREAM, Context, FakeRuntime, cudaError_t, install
from support.threads import run_in_thread


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime()
    install(monkeypatch, fake)
    return fake


def test_a_gpu_is_described(runtime: FakeRuntime) -> None:
    cuda = CudaPython(1)
    assert (cuda.name, cuda.compute_capability, cuda.multiprocessors) == ("GPU 1", "9.0", 132)


def test_a_block_uses_its_gpu_and_gives_the_thread_its_own_back(runtime: FakeRuntime) -> None:
    first, second = CudaPython(0), CudaPython(1)
    with first.active():
        address = first.allocate(8)
        with second.active():
            assert runtime.memory[second.allocate(8)] == (1, 8)
        assert runtime.memory[first.allocate(8)] == (0, 8)
        assert runtime.memory[address] == (0, 8)
    assert not runtime.contexts


def test_the_gpu_is_given_back_after_an_error(runtime: FakeRuntime) -> None:
    runtime.cudaSetDevice(1)
    with pytest.raises(KeyError), CudaPython(0).active():
        raise KeyError
    assert runtime.device == 1


def test_a_thread_without_a_gpu_gets_none_and_no_other_gpu_is_touched(runtime: FakeRuntime) -> None:
    """To set GPU 0 again would make a context there, which takes memory of a GPU that nobody asked for."""
    cuda, devices, contexts = CudaPython(1), [], []

    def work() -> None:
        with cuda.active():
            devices.append(runtime.memory[cuda.allocate(8)][0])
        contexts.extend(runtime.contexts)

    run_in_thread(work)
    assert devices == [1]
    assert not contexts
    assert list(runtime.primary) == [1]


def test_a_context_of_another_library_is_put_aside_and_given_back(runtime: FakeRuntime) -> None:
    foreign = Context(0)
    runtime.contexts.append(foreign)
    cuda = CudaPython(0)
    with cuda.active():
        cuda.allocate(8)
        assert runtime.contexts[-1] is runtime.primary[0]
    assert runtime.contexts == [foreign]


@pytest.mark.parametrize("version", [12080, 13000])
class TestCapture:
    @pytest.fixture
    def runtime(self, monkeypatch: pytest.MonkeyPatch, version: int) -> FakeRuntime:
        fake = FakeRuntime(version=version)
        install(monkeypatch, fake)
        return fake

    def test_a_capture_gives_a_graph(self, runtime: FakeRuntime) -> None:
        cuda = CudaPython(0)
        stream = cuda.create_stream()
        graph = cuda.capture(stream, lambda: self.start(runtime, stream))
        assert runtime.work[stream] == 0
        cuda.launch(graph, stream)
        assert runtime.work[stream] == 1
        assert not runtime.graphs
        cuda.destroy_graph(graph)
        assert not runtime.executables

    @pytest.mark.parametrize("failure", ["begin", "work", "ours", "end", "instantiate"])
    def test_a_failed_capture_leaves_the_stream_usable_and_no_error(self, runtime: FakeRuntime, failure: str) -> None:
        cuda = CudaPython(0)
        stream = LEGACY_STREAM if failure == "begin" else cuda.create_stream()
        runtime.work[stream] = 0
        runtime.instantiate_fails = failure == "instantiate"

        def work() -> None:
            self.start(runtime, stream)
            if failure == "work":
                cuda.synchronize(stream)  # CUDA refuses it during a capture
            if failure == "ours":
                raise BackendError("TensorRT could not start the batch")
            if failure == "end":
                runtime.cudaMalloc(1)  # by a library that does not check

        with pytest.raises(CaptureError) as caught:
            cuda.capture(stream, work)
        assert isinstance(caught.value.__cause__, BackendError)
        assert runtime.last_error == cudaError_t.cudaSuccess
        assert not runtime.capturing
        assert not runtime.graphs
        assert runtime.start(stream) == cudaError_t.cudaSuccess
        cuda.synchronize(stream)
        cuda.allocate(8)
        runtime.instantiate_fails = False
        if failure != "begin":
            cuda.destroy_graph(cuda.capture(stream, lambda: None))

    def test_an_error_of_another_kind_ends_the_capture_too(self, runtime: FakeRuntime) -> None:
        cuda = CudaPython(0)
        stream = cuda.create_stream()

        def work() -> None:
            raise KeyError("a mistake")

        with pytest.raises(KeyError):
            cuda.capture(stream, work)
        assert not runtime.capturing
        assert not runtime.graphs
        assert runtime.last_error == cudaError_t.cudaSuccess

    @staticmethod
    def start(runtime: FakeRuntime, stream: int) -> None:
        assert runtime.start(stream) == cudaError_t.cudaSuccess

    def test_without_a_driver_the_error_says_so(self, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
        """cuda-python 12.8 raises ``RuntimeError``; 13.0 answers version 0. Both were seen without a driver."""
        install(monkeypatch, FakeRuntime(version=version, driver=0))
        with pytest.raises(ProviderError, match="no NVIDIA driver"):
            CudaPython(0)


def test_an_old_driver_and_a_missing_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeRuntime(driver=12080))
    with pytest.raises(ProviderError, match=r"12\.8.*13\.0"):
        CudaPython(0)
    install(monkeypatch, FakeRuntime(gpus=0))
    with pytest.raises(ProviderError, match="cudaErrorNoDevice"):
        CudaPython(0)
    install(monkeypatch, FakeRuntime(gpus=2))
    with pytest.raises(ProviderError) as caught:
        CudaPython(2)
    assert caught.value.details == {"device": 2, "count": 2}


def test_too_little_memory_names_a_smaller_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime(total=1000)
    install(monkeypatch, runtime)
    cuda = CudaPython(0)
    with cuda.active(), pytest.raises(BackendError, match="--profile") as caught:
        cuda.allocate(2000)
    assert caught.value.details == {"requested": 2000, "free": 1000, "total": 1000}
    assert runtime.last_error == cudaError_t.cudaSuccess


def test_a_thread_that_sleeps_waits_for_all_work_of_its_stream(runtime: FakeRuntime) -> None:
    cuda = CudaPython(0, sleeps=True)
    streams = [cuda.create_stream(), cuda.create_stream()]
    for stream in streams * 2:
        runtime.start(stream)
    for _ in range(2):
        cuda.synchronize(streams[0])
    assert [runtime.work[stream] for stream in streams] == [0, 2]
    assert len(runtime.events) == 1
    for stream in streams:
        cuda.destroy_stream(stream)
    assert not runtime.events

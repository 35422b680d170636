"""Checks of everything below TensorRT: copies, streams, CUDA graphs, threads and the order in which memory is freed.

They run the TensorRT backend with an exact engine and compare every answer with numpy. The engine and the GPU are
given: ``cuda_step`` gives real ones, the tests simulated ones.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np

from modernrank.backends.cuda.api import Bytes, Cuda
from modernrank.backends.profiles import CUDA_GRAPH_TOKENS
from modernrank.backends.tensorrt.backend import TensorRtBackend
from modernrank.backends.tensorrt.lane import RUNS_BEFORE_CAPTURE
from modernrank.errors import BackendError, ClosedError, InputError, ProviderError
from modernrank.options import GpuOptions

from .exact_engine import PROFILES, Details, Gpu, compare, expect, opened, random_batch

LANES, CALLERS, SHAPES = 2, 8, 40
CLOSINGS, CALLERS_OF_A_CLOSING = 5, 6
SECONDS_UNTIL_AN_ANSWER, SECONDS_BEFORE_CLOSING = 10, 0.02
LEAK = 4 * 2**20  # bytes that the driver may keep
LATENCY_RUNS = 200
SMALL = (1, 64)  # rows, tokens


def check_methods(gpu: Gpu) -> Details:
    """Every method of ``Cuda``: a copy to the GPU and back, in a stream and as a CUDA graph."""
    cuda, size = gpu.cuda, 1_000_003
    numbers = np.random.default_rng(0)
    with cuda.active():
        stream, address = cuda.create_stream(), cuda.allocate(size)
        source, target = cuda.pinned(size), cuda.pinned(size)

        def copy() -> None:
            cuda.to_device(address, source, stream)
            cuda.to_host(target, address, stream)

        def refill() -> None:
            source[:] = numbers.integers(0, 256, size, np.uint8)
            target[:] = 0

        refill()
        copy()
        cuda.synchronize(stream)
        expect(np.array_equal(source, target), "a copy to the GPU and back has other bytes")
        if cuda.has_graphs:
            refill()
            graph = cuda.capture(stream, copy)
            cuda.synchronize(stream)
            expect(not target.any(), "captured work has run during the capture")
            for _ in range(3):
                refill()
                cuda.launch(graph, stream)
                cuda.synchronize(stream)
                expect(np.array_equal(source, target), "a CUDA graph of a copy has other bytes")
            cuda.destroy_graph(graph)
        _free(cuda, stream, address, (source, target))
        free, total = cuda.memory()
    return {"gpu": cuda.name, "compute_capability": cuda.compute_capability, "free": free, "total": total}


def _free(cuda: Cuda, stream: int, address: int, buffers: tuple[Bytes, ...]) -> None:
    for buffer in buffers:
        cuda.free_pinned(buffer)
    cuda.free(address)
    cuda.destroy_stream(stream)


def check_threads(gpu: Gpu) -> Details:
    """Callers share the lanes: many shapes with random content, each caller in an order of its own."""
    numbers = np.random.default_rng(0)
    shapes = [SMALL]
    while len(shapes) < SHAPES:
        profile = PROFILES[len(shapes) % 8 == 0]  # some are long
        tokens = int(numbers.integers(profile.tokens[0], profile.tokens[2] + 1))
        rows = profile.rows[2]
        if len(shapes) % 3:  # few enough for a CUDA graph, where the profile allows it
            rows = max(1, min(rows, CUDA_GRAPH_TOKENS // tokens))
        shape = int(numbers.integers(1, rows + 1)), tokens
        if shape not in shapes:
            shapes.append(shape)
    with opened(gpu, lanes=LANES, max_cuda_graphs=4) as run, ThreadPoolExecutor(CALLERS) as callers:

        def call(caller: int) -> None:
            own = np.random.default_rng(caller)
            for index in own.permutation(SHAPES):
                compare(run.backend, own, shapes[index], times=int(own.integers(1, 4)))

        for done in [callers.submit(call, caller) for caller in range(CALLERS)]:
            done.result()
        return {"shapes": len(shapes), "callers": CALLERS, "lanes": LANES, **run.cuda.counts()}


def check_graphs(gpu: Gpu) -> Details:
    """Shapes become CUDA graphs, are dropped for others and captured again, and run between other shapes."""
    with opened(gpu, max_cuda_graphs=2) as run:
        run.run(1, 64, times=RUNS_BEFORE_CAPTURE + 3)
        expect(run.cuda.captured == 1 and run.cuda.launched > 0, f"no CUDA graph: {run.cuda.counts()}")
        for other in ((2, 128), (64, 512), (3, 4000)):  # without a CUDA graph
            run.run(*other)
            run.run(1, 64)
        for shape in ((1, 128), (2, 192), (1, 64)) * 2:  # one more than the lane keeps
            run.run(*shape, times=RUNS_BEFORE_CAPTURE + 2)
        counts = run.cuda.counts()
        expect(counts["destroyed"] > 0 and counts["captured"] > 3, f"none was dropped or captured again: {counts}")
    expect(run.cuda.captured == run.cuda.destroyed, f"CUDA graphs are left: {run.cuda.counts()}")
    return run.cuda.counts()


def check_shape_in_context(gpu: Gpu) -> Details:
    """A CUDA graph must not read the shape of another run from the context that both use.

    NVIDIA advises one execution context for each CUDA graph (https://github.com/NVIDIA/TensorRT/issues/3798), because
    a context keeps state of the shape that was set last.
    """
    with opened(gpu, max_cuda_graphs=4, shape_in_context=True) as run:
        run.run(1, 64, times=RUNS_BEFORE_CAPTURE + 2)
        run.run(2, 128)  # without a CUDA graph
        run.run(1, 64, times=2)
        run.run(4, 192, times=RUNS_BEFORE_CAPTURE + 2)  # another CUDA graph
        run.run(1, 64, times=2)
        return run.cuda.counts()


def _check_failed_capture(gpu: Gpu, disturb: Callable[[int], None]) -> Details:
    with opened(gpu, max_cuda_graphs=4, disturb=disturb) as run:
        run.run(1, 64, times=RUNS_BEFORE_CAPTURE + 5)
        counts = run.cuda.counts()
        expect(counts["failed"] > 0 and counts["launched"] == 0, f"the capture did not fail: {counts}")
        with gpu.cuda.active():
            error = gpu.last_error()
        expect(error == "", f"the failed capture left an error: {error}")
        run.run(64, 512)
        run.engine.disturb = None
        run.run(1, 64, times=RUNS_BEFORE_CAPTURE + 2)
        run.run(2, 64, times=RUNS_BEFORE_CAPTURE + 2)
        return {"disturbed": counts, "afterwards": run.cuda.counts()}


def check_capture_with_allocation(gpu: Gpu) -> Details:
    """An engine that allocates while it is captured, which CUDA forbids: the answers are right without a CUDA graph."""
    return _check_failed_capture(gpu, lambda stream: gpu.cuda.free(gpu.cuda.allocate(1024)))


def check_capture_with_synchronisation(gpu: Gpu) -> Details:
    """An engine that waits for its stream while it is captured: the answers are right without a CUDA graph."""
    return _check_failed_capture(gpu, gpu.cuda.synchronize)


def check_callers_stream(gpu: Gpu) -> Details:
    """A stream of the caller is used, and still works afterwards."""
    with gpu.cuda.active():
        stream = gpu.cuda.create_stream()
    with opened(gpu, max_cuda_graphs=2, stream=stream) as run:
        run.run(1, 64, times=RUNS_BEFORE_CAPTURE + 3)
        run.run(64, 512)
        run.run(4, 8192)
    counts = run.cuda.counts()
    expect(counts["launched"] > 0, f"no CUDA graph ran in the caller's stream: {counts}")
    with opened(gpu, stream=stream) as run:
        run.run(1, 64)
    with gpu.cuda.active():
        gpu.cuda.synchronize(stream)
        gpu.cuda.destroy_stream(stream)
    return counts


def check_stream_0(gpu: Gpu) -> Details:
    """Stream 0 is refused, because CUDA cannot capture it and TensorRT would synchronise around each batch."""
    try:
        GpuOptions(cuda_stream=0)
    except (InputError, ProviderError) as error:
        return {"refused": str(error)}
    raise AssertionError("cuda_stream=0 is accepted")


def check_closing_under_load(gpu: Gpu) -> Details:
    """Close while callers score: each gets right answers or ``ClosedError``, and all memory is given back."""

    def score(backend: TensorRtBackend, seed: int, answered: threading.Event) -> int:
        numbers, answers = np.random.default_rng(seed), 0
        while True:
            try:
                compare(backend, numbers, (int(numbers.integers(1, 5)), 64))
            except ClosedError:
                return answers
            answers += 1
            answered.set()

    def load_and_close() -> int:
        with opened(gpu, lanes=LANES, max_cuda_graphs=2) as run, ThreadPoolExecutor(CALLERS_OF_A_CLOSING) as callers:
            answered = threading.Event()
            working = [callers.submit(score, run.backend, seed, answered) for seed in range(CALLERS_OF_A_CLOSING)]
            answered.wait(SECONDS_UNTIL_AN_ANSWER)
            time.sleep(SECONDS_BEFORE_CLOSING)
            run.backend.close()
            return sum(done.result() for done in working)

    answers = load_and_close()  # CUDA keeps some memory after the first time
    before = _free_memory(gpu.cuda)
    answers += sum(load_and_close() for _ in range(CLOSINGS))
    after = _free_memory(gpu.cuda)
    expect(answers > 0, "no caller got an answer before the backend was closed")
    expect(before - after <= LEAK, f"{before - after} bytes of GPU memory were not given back")
    return {"closings": 1 + CLOSINGS, "answers": answers, "bytes_lost": before - after}


def _free_memory(cuda: Cuda) -> int:
    with cuda.active():
        return cuda.memory()[0]


def check_out_of_memory(gpu: Gpu) -> Details:
    """Ten times the GPU's memory is a ``BackendError`` with the figures, and everything works afterwards."""
    with opened(gpu, max_cuda_graphs=2) as run:
        with gpu.cuda.active():
            requested = 10 * gpu.cuda.memory()[1]
            try:
                gpu.cuda.allocate(requested)
            except BackendError as error:
                details = error.details
            else:
                raise AssertionError(f"{requested} bytes were allocated")
        expect(details.get("requested") == requested, f"the details of the error are {details}")
        expect(0 < details["free"] <= details["total"], f"the details of the error are {details}")
        run.run(1, 64, times=RUNS_BEFORE_CAPTURE + 2)
    with opened(gpu, lanes=LANES) as run:
        run.run(64, 512, times=3)
    return dict(details)


def check_latency(gpu: Gpu) -> Details:
    """Microseconds of a small batch with a CUDA graph and without one; nothing is demanded of them.

    A thread that waits spins or sleeps; ``core_share`` is the processor time over the time that passed.
    """
    return {
        name: _latency(gpu, max_cuda_graphs, sleeps)
        for name, max_cuda_graphs, sleeps in (
            ("without_cuda_graph", 0, False),
            ("with_cuda_graph", 2, False),
            ("with_cuda_graph_sleeping", 2, True),
        )
    }


def _latency(gpu: Gpu, max_cuda_graphs: int, sleeps: bool) -> Details:
    with opened(gpu, max_cuda_graphs=max_cuda_graphs, sleeps=sleeps) as run:
        run.run(*SMALL, times=RUNS_BEFORE_CAPTURE + 10)
        batch = random_batch(run.numbers, SMALL)
        samples = []
        started, used = time.perf_counter(), time.process_time()
        for _ in range(LATENCY_RUNS):
            start = time.perf_counter()
            run.backend.run(batch)
            samples.append(round(1e6 * (time.perf_counter() - start), 1))
        return {
            "median_us": statistics.median(samples),
            "samples_us": samples,
            "launched": run.cuda.launched,
            "core_share": round((time.process_time() - used) / (time.perf_counter() - started), 3),
        }


CHECKS: Mapping[str, Callable[[Gpu], Details]] = MappingProxyType(
    {
        "methods": check_methods,
        "threads": check_threads,
        "graphs": check_graphs,
        "shape-in-context": check_shape_in_context,
        "capture-with-allocation": check_capture_with_allocation,
        "capture-with-synchronisation": check_capture_with_synchronisation,
        "callers-stream": check_callers_stream,
        "stream-0": check_stream_0,
        "closing-under-load": check_closing_under_load,
        "out-of-memory": check_out_of_memory,
        "latency": check_latency,
    }
)

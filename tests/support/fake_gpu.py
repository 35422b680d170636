"""A GPU that is simulated on the processor: it keeps CUDA's rules, and fails the test where the backend breaks one.

Work in a stream runs only when the stream is synchronised, as on a slow GPU. Addresses, sizes, shapes and types are
checked where they are used, and a leak is seen. During a capture nothing may be allocated, waited for or set. A CUDA
graph reads the shapes of its execution context when it is launched, not when it was captured, so a context that has
been set to another shape since gives wrong logits. The engine computes with ONNX Runtime.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime

from modernrank.artifact.manifest import Profile
from modernrank.backends.cuda.api import Bytes, CaptureError, Cuda, out_of_memory
from modernrank.backends.tensorrt.library import DeviceContext, DeviceEngine
from modernrank.errors import BackendError

Work = Callable[[], None]
LEGACY_STREAM = 0
_threads = threading.local()  # .gpu: what the thread has activated


class FakeCuda(Cuda):
    """A GPU whose rules are checked.

    Args:
        total: bytes of memory.
        captures: how many captures succeed before all others fail; None for all.
    """

    name, compute_capability, multiprocessors, library = "a fake", "9.0", 132, "fake 1.0"
    has_graphs = True

    def __init__(self, total: int = 10**9, captures: int | None = None) -> None:
        self.total = total
        self.captures = captures
        self.capturing: int | None = None  # the thread
        self.failed_captures = 0
        self.device: dict[int, Bytes] = {}
        self.host: dict[int, Bytes] = {}
        self.streams: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.launched = 0
        self.destroyed_graphs = 0
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def everything_is_given_back(self) -> bool:
        return not (self.device or self.host or self.streams or self.graphs)

    @contextmanager
    def active(self) -> Iterator[None]:
        before, _threads.gpu = getattr(_threads, "gpu", None), self
        try:
            yield
        finally:
            _threads.gpu = before

    def memory(self) -> tuple[int, int]:
        return self.total - sum(buffer.size for buffer in self.device.values()), self.total

    def allocate(self, size: int) -> int:
        self._check_thread()
        self.check_no_capture("memory is allocated")
        free, total = self.memory()
        if size > free:
            raise out_of_memory(size, free, total)
        address = next(self._numbers) * 2**32
        self.device[address] = np.full(size, 0xFF, np.uint8)  # uninitialised memory is not zero
        return address

    def free(self, address: int) -> None:
        self._check_thread()
        self.check_no_capture("memory is freed")
        del self.device[address]

    def pinned(self, size: int) -> Bytes:
        self._check_thread()
        self.check_no_capture("memory is allocated")
        buffer = np.full(size, 0xFF, np.uint8)
        self.host[id(buffer)] = buffer
        return buffer

    def free_pinned(self, buffer: Bytes) -> None:
        del self.host[id(buffer)]

    def create_stream(self) -> int:
        self._check_thread()
        stream = next(self._numbers)
        self.streams[stream] = []
        return stream

    def destroy_stream(self, stream: int) -> None:
        assert not self.streams.pop(stream), "a stream is destroyed with work in it"

    def to_device(self, address: int, source: Bytes, stream: int) -> None:
        self._check_pinned(source)
        target = self.device[address]
        assert source.nbytes <= target.nbytes
        self.enqueue(stream, lambda: np.copyto(target[: source.nbytes], source))

    def to_host(self, target: Bytes, address: int, stream: int) -> None:
        self._check_pinned(target)
        source = self.device[address]
        assert target.nbytes <= source.nbytes
        self.enqueue(stream, lambda: np.copyto(target, source[: target.nbytes]))

    def synchronize(self, stream: int) -> None:
        self._check_thread()
        self.check_no_capture("a stream is waited for")
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        self._check_thread()
        assert stream != LEGACY_STREAM, "the legacy stream is captured"
        assert not self.streams[stream], "work is waiting in a stream that is captured"
        self.capturing = threading.get_ident()
        try:
            work()
        except BackendError as error:
            self.streams[stream] = []
            raise CaptureError(str(error)) from error
        finally:
            self.capturing = None
        captured, self.streams[stream] = self.streams[stream], []
        if self.captures == len(self.graphs) + self.destroyed_graphs:
            self.failed_captures += 1
            raise CaptureError("operation failed due to a previous error during capture")
        graph = next(self._numbers)
        self.graphs[graph] = captured
        return graph

    def launch(self, graph: int, stream: int) -> None:
        with self._lock:
            self.launched += 1
        for step in self.graphs[graph]:
            self.enqueue(stream, step)

    def destroy_graph(self, graph: int) -> None:
        self.destroyed_graphs += 1
        del self.graphs[graph]

    def enqueue(self, stream: int, step: Work) -> None:
        self._check_thread()
        self.streams[stream].append(step)

    def check_no_capture(self, what: str) -> None:
        assert self.capturing != threading.get_ident(), f"{what} during a capture"

    def _check_thread(self) -> None:
        assert getattr(_threads, "gpu", None) is self, "the thread has not activated this GPU"

    def _check_pinned(self, buffer: Bytes) -> None:
        base = buffer if buffer.base is None else buffer.base
        assert id(base) in self.host, "memory that is not pinned is copied"


class FakeEngine(DeviceEngine):
    """An engine; ``file`` is a float32 graph in a TensorRT dialect."""

    runtime = "tensorrt 99.0"
    captures_itself = False

    def __init__(self, cuda: FakeCuda, file: Path, profiles: Sequence[Profile], slots: int) -> None:
        self.cuda, self.profiles, self.slots = cuda, tuple(profiles), slots
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.shapes: list[tuple[int, ...]] = []
        self.contexts = 0
        self.closed = False

    def scratch(self, profile: int) -> int:
        return 1000 * (profile + 1)

    def close(self) -> None:
        assert not self.cuda.graphs, "an engine is freed before its CUDA graphs"
        self.closed = True

    def context(self, profile: int, scratch: int, size: int, stream: int) -> FakeContext:
        assert not self.closed
        assert size >= self.scratch(profile)
        assert self.cuda.device[scratch].size >= size
        assert stream in self.cuda.streams
        self.cuda.check_no_capture("a context is made")
        self.contexts += 1
        return FakeContext(self, self.profiles[profile])


class FakeContext(DeviceContext):
    """A context of a fake engine."""

    def __init__(self, engine: FakeEngine, profile: Profile) -> None:
        self.engine, self.profile = engine, profile
        self.inputs: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.output = 0

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        self.engine.cuda.check_no_capture("a shape is set")
        if name == "slots":
            assert shape == (self.engine.slots,)
        else:
            rows, tokens = shape
            assert self.profile.rows[0] <= rows <= self.profile.rows[2]
            assert self.profile.tokens[0] <= tokens <= self.profile.tokens[2]
        self.inputs[name] = address, shape

    def set_output(self, name: str, address: int) -> None:
        assert name == "logits"
        self.engine.cuda.check_no_capture("an address is set")
        self.output = address

    def enqueue(self, stream: int) -> None:
        """The step keeps the addresses of this moment, and of a captured graph's shapes only those of the copies."""
        inputs, output = dict(self.inputs), self.output
        assert set(inputs) == {"input_ids", "position_ids", "segment_ids", "slots"}
        assert len({shape for name, (_, shape) in inputs.items() if name != "slots"}) == 1

        def step() -> None:
            self.engine.shapes.append(inputs["input_ids"][1])
            feeds = {
                name: self._memory(address)[: 4 * int(np.prod(shape))].view(np.int32).reshape(shape)
                for name, (address, shape) in inputs.items()
            }
            (logits,) = self.engine.session.run(None, feeds)
            assert logits.dtype == np.float32
            if self.inputs != inputs:
                logits = logits + 1000  # values that the context keeps are those of another shape
            target = self._memory(output)
            assert logits.nbytes <= target.nbytes
            target[: logits.nbytes] = logits.reshape(-1).view(np.uint8)

        self.engine.cuda.enqueue(stream, step)

    def can_capture(self, stream: int) -> bool:
        return stream != LEGACY_STREAM

    def _memory(self, address: int) -> Bytes:
        return self.engine.cuda.device[address]

"""A GPU that is simulated on the processor: it keeps CUDA's rules, and fails the test where the backend breaks one.

Work in a stream runs only when the stream is synchronised, as on a slow GPU. Addresses, sizes, shapes and types are
checked where they are used, and a leak is seen. The engine computes with ONNX Runtime.
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
from modernrank.backends.cuda.api import Bytes, Cuda, out_of_memory
from modernrank.backends.tensorrt.library import DeviceContext, DeviceEngine

Work = Callable[[], None]


class FakeCuda(Cuda):
    """A GPU whose rules are checked."""

    name, compute_capability, library = "a fake", "9.0", "fake 1.0"
    has_graphs = True

    def __init__(self, total: int = 10**9) -> None:
        self.total = total
        self.device: dict[int, Bytes] = {}
        self.host: dict[int, Bytes] = {}
        self.streams: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.launched = 0
        self.destroyed_graphs = 0
        self._numbers = itertools.count(1)
        self._active = threading.local()
        self._lock = threading.Lock()

    @property
    def everything_is_given_back(self) -> bool:
        return not (self.device or self.host or self.streams or self.graphs)

    @contextmanager
    def active(self) -> Iterator[None]:
        before, self._active.yes = getattr(self._active, "yes", False), True
        yield
        self._active.yes = before

    def memory(self) -> tuple[int, int]:
        return self.total - sum(buffer.size for buffer in self.device.values()), self.total

    def allocate(self, size: int) -> int:
        self._check_thread()
        free, total = self.memory()
        if size > free:
            raise out_of_memory(size, free, total)
        address = next(self._numbers) * 2**32
        self.device[address] = np.full(size, 0xFF, np.uint8)  # uninitialised memory is not zero
        return address

    def free(self, address: int) -> None:
        self._check_thread()
        del self.device[address]

    def pinned(self, size: int) -> Bytes:
        self._check_thread()
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
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        assert not self.streams[stream], "work is waiting in a stream that is captured"
        work()
        graph = next(self._numbers)
        self.graphs[graph], self.streams[stream] = self.streams[stream], []
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

    def _check_thread(self) -> None:
        assert getattr(self._active, "yes", False), "the thread has not activated the GPU"

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

    def scratch(self, profile: int) -> int:
        return 1000 * (profile + 1)

    def context(self, profile: int, scratch: int, size: int, stream: int) -> FakeContext:
        assert size >= self.scratch(profile)
        assert self.cuda.device[scratch].size >= size
        assert stream in self.cuda.streams
        return FakeContext(self, self.profiles[profile])


class FakeContext(DeviceContext):
    """A context of a fake engine."""

    def __init__(self, engine: FakeEngine, profile: Profile) -> None:
        self.engine, self.profile = engine, profile
        self.inputs: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.output = 0

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        if name == "slots":
            assert shape == (self.engine.slots,)
        else:
            rows, tokens = shape
            assert self.profile.rows[0] <= rows <= self.profile.rows[2]
            assert self.profile.tokens[0] <= tokens <= self.profile.tokens[2]
        self.inputs[name] = address, shape

    def set_output(self, name: str, address: int) -> None:
        assert name == "logits"
        self.output = address

    def enqueue(self, stream: int) -> None:
        """The step keeps the addresses and shapes of this moment, as a captured graph does."""
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
            target = self._memory(output)
            assert logits.nbytes <= target.nbytes
            target[: logits.nbytes] = logits.reshape(-1).view(np.uint8)

        self.engine.cuda.enqueue(stream, step)

    def can_capture(self, stream: int) -> bool:
        return True

    def _memory(self, address: int) -> Bytes:
        return self.engine.cuda.device[address]

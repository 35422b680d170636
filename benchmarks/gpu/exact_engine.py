"""What the checks of the CUDA layer share: an exact engine as a contract, and the TensorRT backend around it.

The engine adds up hashes of tokens (``expected``), so that every answer can be compared exactly. ``kernel_engine``
implements it on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.artifact.manifest import Profile
from modernrank.backends.base import BackendInfo
from modernrank.backends.cuda.api import Cuda
from modernrank.backends.profiles import SLOTS, default_profiles
from modernrank.backends.tensorrt.backend import TensorRtBackend
from modernrank.backends.tensorrt.library import DeviceContext, DeviceEngine
from modernrank.batching.batch import Batch
from modernrank.errors import BackendError

PROFILES: tuple[Profile, ...] = tuple(default_profiles(8192))
LABELS, STEP_OF_LABELS = 2, 7
MULTIPLIER, MODULUS = 31, 1009  # the sum over 8,192 tokens stays below 2 ** 24: exact in float32
VOCABULARY = 50_000
SHAPE_BYTES = 256  # at the beginning of the scratch memory, for engines that keep the shape there

Details = dict[str, Any]


@dataclass(frozen=True)
class Gpu:
    """What is checked.

    cuda:        the GPU.
    make_engine: makes an engine on it that computes ``expected`` with PROFILES, SLOTS and LABELS. If its argument is
                 true, the engine's work reads the shape from the context when it runs, and not when it is enqueued.
    sleeping:    the same GPU for threads that sleep while they wait.
    last_error:  the error that CUDA keeps for the calling thread; "" for none.
    """

    cuda: Cuda
    make_engine: Callable[[bool], DeviceEngine]
    last_error: Callable[[], str]
    sleeping: Cuda


def expected(batch: Batch) -> FloatArray:
    """What an engine answers, float32 ``[rows, slots, labels]``: hashes of a slot's tokens, added up.

    >>> ids = np.array([[1, 2, 3]])
    >>> expected(Batch(ids, np.array([[0, 1, 0]]), np.array([[1, 1, 2]]), slots=2))[:, :, 0]
    array([[94., 93.]], dtype=float32)
    """
    return summed(hashed(batch.input_ids, batch.position_ids), batch.segment_ids, batch.slots)


def hashed(input_ids: IntArray, position_ids: IntArray) -> IntArray:
    """A number below MODULUS for each token, ``[rows, tokens]``."""
    hashes: IntArray = (input_ids * MULTIPLIER + position_ids) % MODULUS
    return hashes


def summed(hashes: IntArray, segment_ids: IntArray, slots: int) -> FloatArray:
    """The sums over the tokens of slots 1, 2, .., different for each label."""
    sums = [
        np.bincount(row, weights, SLOTS + 1)[1 : slots + 1] for row, weights in zip(segment_ids, hashes, strict=True)
    ]
    return (np.array(sums)[:, :, None] + STEP_OF_LABELS * np.arange(LABELS)).astype(np.float32)


def random_batch(numbers: np.random.Generator, shape: tuple[int, int]) -> Batch:
    """A batch of ``shape`` with random content, and a random number of slots."""
    return Batch(
        input_ids=numbers.integers(0, VOCABULARY, shape),
        position_ids=numbers.integers(0, shape[1], shape),
        segment_ids=numbers.integers(0, SLOTS + 1, shape),
        slots=int(numbers.integers(1, SLOTS + 1)),
    )


def expect(is_so: bool, message: str) -> None:
    """Raise an ``AssertionError`` with the message unless it is so; unlike ``assert`` it is never optimised away."""
    if not is_so:
        raise AssertionError(message)


class CountedCuda:
    """A GPU that counts what happens to CUDA graphs; everything else is passed on."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.captured = self.failed = self.launched = self.destroyed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cuda, name)

    def capture(self, stream: int, work: Callable[[], None]) -> Any:
        """Capture, and count it or its failure."""
        try:
            graph = self._cuda.capture(stream, work)
        except BackendError:
            self.failed += 1
            raise
        self.captured += 1
        return graph

    def launch(self, graph: Any, stream: int) -> None:
        """Launch and count."""
        self._cuda.launch(graph, stream)
        self.launched += 1

    def destroy_graph(self, graph: Any) -> None:
        """Destroy and count."""
        self._cuda.destroy_graph(graph)
        self.destroyed += 1

    def counts(self) -> Details:
        """Numbers of CUDA graphs; exact where a single lane runs."""
        return {name: getattr(self, name) for name in ("captured", "failed", "launched", "destroyed")}


class DisturbedEngine(DeviceEngine):
    """An engine whose contexts do something else before they start their work.

    ``disturb`` takes the stream; the engine behaves as ``engine`` while it is None.
    """

    def __init__(self, engine: DeviceEngine, disturb: Callable[[int], None] | None) -> None:
        self.runtime, self.profiles, self.slots = engine.runtime, engine.profiles, engine.slots
        self.captures_itself = engine.captures_itself
        self.disturb = disturb
        self._engine = engine

    def scratch(self, profile: int) -> int:
        """As the engine."""
        return self._engine.scratch(profile)

    def context(self, profile: int, scratch: int, size: int, stream: int) -> DeviceContext:
        """A context of the engine, disturbed."""
        context = self._engine.context(profile, scratch, size, stream)
        start = context.enqueue

        def enqueue(stream: int) -> None:
            if self.disturb is not None:
                self.disturb(stream)
            start(stream)

        context.enqueue = enqueue  # type: ignore[method-assign]
        return context

    def close(self) -> None:
        """As the engine."""
        self._engine.close()


@dataclass(frozen=True)
class Opened:
    """A backend with random numbers for its batches; ``engine`` and ``cuda`` are those that it uses."""

    backend: TensorRtBackend
    engine: DisturbedEngine
    cuda: CountedCuda
    numbers: np.random.Generator

    def run(self, *shape: int, times: int = 1) -> None:
        """Run random batches of a shape, and compare each answer."""
        compare(self.backend, self.numbers, (shape[0], shape[1]), times)


def compare(backend: TensorRtBackend, numbers: np.random.Generator, shape: tuple[int, int], times: int = 1) -> None:
    """Run random batches of a shape, and compare each answer."""
    for _ in range(times):
        batch = random_batch(numbers, shape)
        expect(np.array_equal(backend.run(batch), expected(batch)), f"a batch of shape {shape} has a wrong answer")


@contextmanager
def opened(
    gpu: Gpu,
    lanes: int = 1,
    max_cuda_graphs: int = 0,
    stream: int | None = None,
    disturb: Callable[[int], None] | None = None,
    shape_in_context: bool = False,
    sleeps: bool = False,
) -> Iterator[Opened]:
    """A backend with an engine of its own, which it closes at the end of the block."""
    counted = CountedCuda(gpu.sleeping if sleeps else gpu.cuda)
    with gpu.cuda.active():
        made = gpu.make_engine(shape_in_context)
    engine = DisturbedEngine(made, disturb)
    info = BackendInfo("tensorrt", engine.runtime, "", "fp32", "", threads=1, workers=lanes)
    backend = TensorRtBackend(engine, cast(Cuda, counted), info, LABELS, max_cuda_graphs, stream)
    try:
        yield Opened(backend, engine, counted, np.random.default_rng(0))
    finally:
        backend.close()

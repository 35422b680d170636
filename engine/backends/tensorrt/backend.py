"""The TensorRT session: what is copied where, which shape runs, and when it becomes a CUDA graph.

A *lane* is a stream with buffers of its own. While one lane's batch runs on the GPU, the next is packed and copied in
another. All that a run needs is allocated when the session opens; a run allocates nothing.

    batch ─▶ pinned memory ─copy─▶ GPU ─engine─▶ GPU ─copy─▶ pinned memory ─▶ logits
             └───────────── one CUDA graph, for small shapes that come again ─────────┘
"""

from __future__ import annotations

import math
import queue
from collections import Counter, OrderedDict
from contextlib import ExitStack
from typing import Any

import numpy as np

from modernrank.backends.base import SessionInfo
from modernrank.backends.cuda.api import Bytes, Cuda
from modernrank.backends.profiles import GRAPH_TOKENS, fit, limits_of, rounded
from modernrank.batching.packing import INPUTS_PER_TOKEN, Batch, FloatArray
from modernrank.errors import ModernRankError

from .library import DeviceEngine

INDEX = np.dtype(np.int32)
# Runs of a shape before it is captured: TensorRT settles its resources in the first ones.
WARM_RUNS = 2
# CUDA graphs that a lane keeps.
GRAPHS = 16

Shape = tuple[int, int, int]  # profile, rows, tokens


class TensorRtSession:
    """Runs an engine. See ``Session``; ``run`` is safe to call from several threads.

    Args:
        engine: on the GPU of ``cuda``.
        cuda: the GPU.
        info: of the engine, with ``streams`` as the number of lanes.
        labels: how many the model has.
        graphs: most CUDA graphs that a lane keeps, the longest unused given up; 0 for none.
        stream: the caller's own CUDA stream, which is then the only lane's.

    Raises:
        ProviderError: the GPU's memory does not suffice.
    """

    def __init__(
        self,
        engine: DeviceEngine,
        cuda: Cuda,
        info: SessionInfo,
        labels: int,
        graphs: int = GRAPHS,
        stream: int | None = None,
    ) -> None:
        self.info = info
        self.limits = limits_of(engine.profiles, engine.slots, info.streams)
        self._engine, self._cuda = engine, cuda
        self._idle: queue.SimpleQueue[_Lane | None] = queue.SimpleQueue()
        self._lanes: list[_Lane] = []
        cuda.activate()
        with ExitStack() as opened:  # what is open is given back if a later one fails
            for _ in range(info.streams):
                lane = _Lane(engine, cuda, labels, graphs if cuda.has_graphs else 0, stream)
                opened.callback(lane.free)
                lane.allocate()
                self._lanes.append(lane)
            opened.pop_all()
        for lane in self._lanes:
            self._idle.put(lane)

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        """See ``Session.run``; ``side_by_side`` makes no difference: a lane is taken when one is idle."""
        rows, tokens = batch.input_ids.shape
        shape = self._shape(rows, tokens)
        lane = self._idle.get()
        if lane is None:
            self._idle.put(None)  # for the next that waits
            raise ModernRankError("this session is closed; load the artifact again")
        try:
            self._cuda.activate()
            return lane.run(batch, shape)
        finally:
            self._idle.put(lane)

    def close(self) -> None:
        """See ``Session.close``. Runs that have begun end first."""
        lanes, self._lanes = self._lanes, []
        if lanes:
            self._cuda.activate()
        for _ in lanes:
            lane = self._idle.get()
            assert lane is not None
            lane.free()
        self._idle.put(None)

    def _shape(self, rows: int, tokens: int) -> Shape:
        index = fit(self._engine.profiles, rows, tokens)
        return (index, *rounded(self._engine.profiles[index], rows, tokens))


class _Lane:
    """A stream, its buffers, and a context for each profile."""

    def __init__(self, engine: DeviceEngine, cuda: Cuda, labels: int, graphs: int, stream: int | None) -> None:
        self._engine, self._cuda = engine, cuda
        self._labels = labels
        self._most_graphs = graphs
        self._callers_stream = stream
        self._owned = ExitStack()  # what must be given back, the last first
        self._graphs: OrderedDict[Shape, Any] = OrderedDict()
        self._runs: Counter[Shape] = Counter()

    def allocate(self) -> None:
        """Everything, for the largest shape of every profile."""
        cuda, engine, profiles = self._cuda, self._engine, self._engine.profiles
        if self._callers_stream is None:
            self._stream = cuda.create_stream()
            self._owned.callback(cuda.destroy_stream, self._stream)
        else:
            self._stream = self._callers_stream
        most_tokens = max(p.rows[2] * p.tokens[2] for p in profiles)
        most_rows = max(p.rows[2] for p in profiles)
        self._inputs = {name: self._buffers(most_tokens * INDEX.itemsize) for name in INPUTS_PER_TOKEN}
        self._slots = self._buffers(engine.slots * INDEX.itemsize)
        self._output = self._buffers(most_rows * engine.slots * self._labels * np.dtype(np.float32).itemsize)
        size = max(1, *(engine.scratch(i) for i in range(len(profiles))))
        scratch = self._allocate(size)
        self._contexts = [engine.context(i, scratch, size, self._stream) for i in range(len(profiles))]
        pinned, address = self._slots
        pinned.view(INDEX)[:] = np.arange(1, engine.slots + 1)
        cuda.to_device(address, pinned, self._stream)  # never changes
        cuda.synchronize(self._stream)

    def run(self, batch: Batch, shape: Shape) -> FloatArray:
        """Logits ``[rows, slots, labels]`` of the batch's own rows and slots."""
        self._pack(batch, shape)
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
            self._cuda.launch(self._graphs[shape], self._stream)
        else:
            self._enqueue(shape)
        self._cuda.synchronize(self._stream)
        logits = self._logits(shape)[: len(batch.input_ids), : batch.slots].copy()
        self._consider_graph(shape)
        return logits

    def free(self) -> None:
        """Give everything back."""
        self._contexts = []
        while self._graphs:
            self._cuda.destroy_graph(self._graphs.popitem()[1])
        self._owned.close()

    def _buffers(self, size: int) -> tuple[Bytes, int]:
        """As many pinned bytes on the host and bytes on the GPU."""
        address = self._allocate(size)
        pinned = self._cuda.pinned(size)
        self._owned.callback(self._cuda.free_pinned, pinned)
        return pinned, address

    def _allocate(self, size: int) -> int:
        address = self._cuda.allocate(size)
        self._owned.callback(self._cuda.free, address)
        return address

    def _pack(self, batch: Batch, shape: Shape) -> None:
        """Write the batch to pinned memory, padded to the shape; padding is segment 0."""
        rows, tokens = batch.input_ids.shape
        for name in INPUTS_PER_TOKEN:
            padded = self._inputs[name][0].view(INDEX)[: math.prod(shape[1:])].reshape(shape[1:])
            padded[rows:] = 0
            padded[:rows, tokens:] = 0
            padded[:rows, :tokens] = getattr(batch, name)

    def _enqueue(self, shape: Shape) -> None:
        """Copies in, the engine, and the copy out, given to the stream."""
        profile, rows, tokens = shape
        context, used = self._contexts[profile], rows * tokens * INDEX.itemsize
        for name in INPUTS_PER_TOKEN:
            pinned, address = self._inputs[name]
            self._cuda.to_device(address, pinned[:used], self._stream)
            context.set_input(name, address, (rows, tokens))
        context.set_input("slots", self._slots[1], (self._engine.slots,))
        pinned, address = self._output
        context.set_output("logits", address)
        context.enqueue(self._stream)
        self._cuda.to_host(pinned[: self._logits(shape).nbytes], address, self._stream)

    def _logits(self, shape: Shape) -> FloatArray:
        sizes = (shape[1], self._engine.slots, self._labels)
        return self._output[0].view(np.float32)[: math.prod(sizes)].reshape(sizes)

    def _consider_graph(self, shape: Shape) -> None:
        """Capture a small shape once it has come often enough, the last run having been of this very shape."""
        if self._most_graphs == 0 or shape in self._graphs or shape[1] * shape[2] > GRAPH_TOKENS:
            return
        self._runs[shape] += 1
        if self._runs[shape] < WARM_RUNS:
            return
        while len(self._graphs) >= self._most_graphs:
            oldest, graph = self._graphs.popitem(last=False)
            del self._runs[oldest]
            self._cuda.destroy_graph(graph)
        self._graphs[shape] = self._cuda.capture(self._stream, lambda: self._enqueue(shape))

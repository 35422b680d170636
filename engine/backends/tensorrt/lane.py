"""A lane: one stream of the GPU with buffers of its own, and the CUDA graphs of its small shapes.

    batch ─▶ page-locked memory ─copy─▶ GPU ─engine─▶ GPU ─copy─▶ page-locked memory ─▶ logits
             └──────────────── one CUDA graph, for small shapes that recur ─────────┘

While the batch of one lane runs on the GPU, the next batch is packed and copied in another lane. Everything that a
batch needs is allocated when the lane opens; a run allocates nothing.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from contextlib import ExitStack
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.backends.cuda.api import Bytes, Cuda
from modernrank.backends.profiles import CUDA_GRAPH_TOKENS
from modernrank.batching.batch import INPUTS_PER_TOKEN, Batch

from .library import DeviceEngine

logger = logging.getLogger(__name__)

INDEX = np.dtype(np.int32)
# Runs of a shape before it is captured: TensorRT settles its resources in the first ones.
WARM_RUNS = 2

Shape = tuple[int, int, int]  # profile, rows, tokens


class Lane:
    """A stream, its buffers, and an execution context for each profile.

    Args:
        engine: on the GPU of ``cuda``.
        cuda: the GPU.
        labels: the number of the model's labels.
        max_cuda_graphs: maximum number of CUDA graphs that are kept; 0 for none.
        stream: the caller's own CUDA stream; None for a new one.
    """

    def __init__(self, engine: DeviceEngine, cuda: Cuda, labels: int, max_cuda_graphs: int, stream: int | None) -> None:
        self._engine, self._cuda = engine, cuda
        self._labels = labels
        self._max_cuda_graphs = max_cuda_graphs
        self._callers_stream = stream
        self._owned = ExitStack()  # what must be freed, in reverse order
        self._cuda_graphs: OrderedDict[Shape, Any] = OrderedDict()
        self._runs: Counter[Shape] = Counter()

    def allocate(self) -> None:
        """Allocate everything, for the largest shape of every profile.

        Raises:
            BackendError: the GPU has too little memory.
        """
        cuda, engine, profiles = self._cuda, self._engine, self._engine.profiles
        if self._callers_stream is None:
            self._stream = cuda.create_stream()
            self._owned.callback(cuda.destroy_stream, self._stream)
        else:
            self._stream = self._callers_stream
        max_tokens = max(p.rows[2] * p.tokens[2] for p in profiles)
        max_rows = max(p.rows[2] for p in profiles)
        self._inputs = {name: self._buffers(max_tokens * INDEX.itemsize) for name in INPUTS_PER_TOKEN}
        self._slots = self._buffers(engine.slots * INDEX.itemsize)
        self._output = self._buffers(max_rows * engine.slots * self._labels * np.dtype(np.float32).itemsize)
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
        if shape in self._cuda_graphs:
            self._cuda_graphs.move_to_end(shape)
            self._cuda.launch(self._cuda_graphs[shape], self._stream)
        else:
            self._enqueue(shape)
        self._cuda.synchronize(self._stream)
        logits = self._logits(shape)[: len(batch.input_ids), : batch.slots].copy()
        self._consider_capture(shape)
        return logits

    def free(self) -> None:
        """Free everything."""
        self._contexts = []
        while self._cuda_graphs:
            self._cuda.destroy_graph(self._cuda_graphs.popitem()[1])
        self._owned.close()

    def _buffers(self, size: int) -> tuple[Bytes, int]:
        """``size`` page-locked bytes on the host, and as many on the GPU."""
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
        """Start the input copies, the engine and the output copy in the stream."""
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

    def _consider_capture(self, shape: Shape) -> None:
        """Capture a small shape once it has run often enough; the last run was of this shape."""
        if self._max_cuda_graphs == 0 or shape in self._cuda_graphs or shape[1] * shape[2] > CUDA_GRAPH_TOKENS:
            return
        self._runs[shape] += 1
        if self._runs[shape] < WARM_RUNS:
            return
        while len(self._cuda_graphs) >= self._max_cuda_graphs:
            evicted, graph = self._cuda_graphs.popitem(last=False)
            del self._runs[evicted]
            self._cuda.destroy_graph(graph)
            logger.debug("dropping the CUDA graph of %s", evicted)
        logger.debug("capturing a CUDA graph of %s", shape)
        self._cuda_graphs[shape] = self._cuda.capture(self._stream, lambda: self._enqueue(shape))

"""A lane: one stream of the GPU with buffers of its own, and the CUDA graphs of its small shapes.

    batch ─▶ page-locked memory ─copy─▶ GPU ─engine─▶ GPU ─copy─▶ page-locked memory ─▶ logits
             └──────────────── one CUDA graph, for small shapes that recur ─────────┘

While the batch of one lane runs on the GPU, the next batch is packed and copied in another lane. Everything that a
batch needs is allocated when the lane opens; a run allocates nothing.

Each CUDA graph has an execution context of its own, which is never set to another shape: a graph may read values that
its context keeps, and would then read those of the other shape. Contexts are small, and all of a lane's work in the
same scratch memory, one after the other.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.backends.cuda.api import Bytes, CaptureError, Cuda
from modernrank.backends.profiles import CUDA_GRAPH_TOKENS
from modernrank.batching.batch import INPUTS_PER_TOKEN, Batch
from modernrank.errors import BackendError

from .library import DeviceContext, DeviceEngine

logger = logging.getLogger(__name__)

INDEX = np.dtype(np.int32)
# A shape is captured when it has run as often: a capture costs some milliseconds, which a shape that recurs gains back.
RUNS_BEFORE_CAPTURE = 2

Shape = tuple[int, int, int]  # profile, rows, tokens


@dataclass(frozen=True)
class _CudaGraph:
    """A captured shape, and the context that must live as long as it."""

    graph: Any
    context: DeviceContext


class Lane:
    """A stream, its buffers, and an execution context for each profile and for each captured shape.

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
        self._cuda_graphs: OrderedDict[Shape, _CudaGraph] = OrderedDict()
        self._uncapturable: set[Shape] = set()
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
        self._scratch_size = max(1, *(engine.scratch(i) for i in range(len(profiles))))
        self._scratch = self._allocate(self._scratch_size)
        self._contexts = [self._context(i) for i in range(len(profiles))]
        pinned, address = self._slots
        pinned.view(INDEX)[:] = np.arange(1, engine.slots + 1)
        cuda.to_device(address, pinned, self._stream)  # never changes
        cuda.synchronize(self._stream)

    def run(self, batch: Batch, shape: Shape) -> FloatArray:
        """Logits ``[rows, slots, labels]`` of the batch's own rows and slots."""
        self._pack(batch, shape)
        captured = self._cuda_graphs.get(shape)
        if captured is not None:
            self._cuda_graphs.move_to_end(shape)
            self._cuda.launch(captured.graph, self._stream)
        else:
            context = self._contexts[shape[0]]
            self._prepare(context, shape)
            self._enqueue(context, shape)
        self._cuda.synchronize(self._stream)
        logits = self._logits(shape)[: len(batch.input_ids), : batch.slots].copy()
        if captured is None:
            self._consider_capture(shape)
        return logits

    def free(self) -> None:
        """Free everything."""
        self._contexts = []
        while self._cuda_graphs:
            self._drop_oldest()
        self._owned.close()

    def _context(self, profile: int) -> DeviceContext:
        return self._engine.context(profile, self._scratch, self._scratch_size, self._stream)

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

    def _prepare(self, context: DeviceContext, shape: Shape) -> None:
        """Set the addresses and shapes of a context. This is never done inside a capture."""
        for name in INPUTS_PER_TOKEN:
            context.set_input(name, self._inputs[name][1], shape[1:])
        context.set_input("slots", self._slots[1], (self._engine.slots,))
        context.set_output("logits", self._output[1])

    def _enqueue(self, context: DeviceContext, shape: Shape) -> None:
        """Start the input copies, the engine and the output copy in the stream."""
        used = math.prod(shape[1:]) * INDEX.itemsize
        for pinned, address in self._inputs.values():
            self._cuda.to_device(address, pinned[:used], self._stream)
        context.enqueue(self._stream)
        pinned, address = self._output
        self._cuda.to_host(pinned[: self._logits(shape).nbytes], address, self._stream)

    def _logits(self, shape: Shape) -> FloatArray:
        sizes = (shape[1], self._engine.slots, self._labels)
        return self._output[0].view(np.float32)[: math.prod(sizes)].reshape(sizes)

    def _consider_capture(self, shape: Shape) -> None:
        """Capture a small shape once it has run often enough. A shape that cannot be captured goes on without it."""
        if self._max_cuda_graphs == 0 or shape in self._uncapturable or shape[1] * shape[2] > CUDA_GRAPH_TOKENS:
            return
        self._runs[shape] += 1
        if self._runs[shape] < RUNS_BEFORE_CAPTURE:
            return
        try:
            while len(self._cuda_graphs) >= self._max_cuda_graphs:
                self._drop_oldest()
            self._cuda_graphs[shape] = self._capture(shape)
        except BackendError as error:  # the logits are there already
            self._uncapturable.add(shape)
            logger.warning("%d x %d tokens run without a CUDA graph: %s", *shape[1:], error)

    def _capture(self, shape: Shape) -> _CudaGraph:
        """Capture a shape in a context of its own, after one run: TensorRT settles its resources in the first one.

        Raises:
            BackendError: CUDA or TensorRT cannot, or there is too little memory for another context.
        """
        context = self._context(shape[0])
        self._prepare(context, shape)
        if not context.can_capture(self._stream):
            raise CaptureError(f"{self._engine.runtime} does not allow it for this shape")
        self._enqueue(context, shape)
        self._cuda.synchronize(self._stream)
        logger.debug("capturing a CUDA graph of %s", shape)
        return _CudaGraph(self._cuda.capture(self._stream, lambda: self._enqueue(context, shape)), context)

    def _drop_oldest(self) -> None:
        shape, captured = self._cuda_graphs.popitem(last=False)
        del self._runs[shape]
        self._cuda.destroy_graph(captured.graph)
        logger.debug("dropping the CUDA graph of %s", shape)

"""Run an ONNX Runtime session on buffers of the device that stay in place (IO binding), and as CUDA graphs.

inputs ─copy─▶ buffers of the shape ─run or replay─▶ buffer of the logits ─copy─▶ logits

All runs are those of one thread: ONNX Runtime keeps the handles of CUDA's libraries and the captured CUDA graphs for
each thread that calls it, so a server with a thread for each request would capture every shape in each of them.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.backends.profiles import CUDA_GRAPH_TOKENS
from modernrank.batching.batch import INPUTS_PER_TOKEN
from modernrank.batching.start import start
from modernrank.errors import ClosedError
from modernrank.host import renew_after_fork

from .capture_gate import GATE
from .loading import runtime_errors

logger = logging.getLogger(__name__)

# Maximum number of shapes whose buffers (some megabytes) are kept; the least recently used one is dropped first.
MAX_SHAPES = 32
# ONNX Runtime keeps a captured CUDA graph, and its memory, until the session closes.
MAX_CUDA_GRAPHS = 64
NO_CUDA_GRAPH = "-1"
# Runs of a shape before ONNX Runtime captures it, besides the two of its own. Its memory arena still grows in the third
# run of some shapes, and memory that is allocated during a capture makes it fail.
SETTLING_RUNS = 2

Shape = tuple[int, int, int]  # rows, tokens, slots


@dataclass(frozen=True)
class _Buffers:
    """The inputs and the output of one shape on the device, their binding, and the options of a run.

    ``ids`` holds the inputs of the shape [rows, tokens], one after the other, so that one copy brings them all.
    """

    ids: Any
    slots: Any
    output: Any
    binding: Any
    options: Any


class IoBindingRunner:
    """Runs one session in a thread of its own, one batch after the other. Several threads may call ``run`` at once.

    Args:
        ort: the module ``onnxruntime``.
        session: an ``InferenceSession`` of a packed graph with one output.
        labels: the number of the model's labels.
        device: ``"cuda"``, or ``"cpu"``, which needs no binding and therefore can show that its results are right.
        number: of the device.
        cuda_graphs: whether the session was opened with ``enable_cuda_graph``. The first MAX_CUDA_GRAPHS small shapes
            are then captured, each in its first run, and replayed afterwards. One that cannot be captured runs without.
    """

    def __init__(
        self, ort: Any, session: Any, labels: int, device: str = "cuda", number: int = 0, cuda_graphs: bool = False
    ) -> None:
        self._ort, self._session, self._labels = ort, session, labels
        self._device, self._number, self._cuda_graphs = device, number, cuda_graphs
        self._output = session.get_outputs()[0].name
        self._errors = run_errors(ort)
        self._kept: OrderedDict[Shape, _Buffers] = OrderedDict()
        self._captured: dict[Shape, _Buffers] = {}
        self._uncapturable: set[Shape] = set()
        self._graph_ids = itertools.count()
        self._closed = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start a new thread in a forked process, where the parent's does not exist."""
        self._thread = ThreadPoolExecutor(1, "modernrank-onnxruntime")
        self._lock = threading.Lock()  # where that thread cannot be started, callers do the work in their own

    def run(self, inputs: Mapping[str, Any]) -> FloatArray:
        """Logits, float32 ``[rows, slots, labels]``, of the inputs by name.

        Raises:
            ClosedError: ``close`` was called.
        """
        self._check_open()
        return start(self._thread, self._run, inputs).result()

    def close(self) -> None:
        """Stop the thread, after the runs that wait for it, and free the session and its buffers."""
        self._closed = True
        self._thread.shutdown()
        with self._lock, GATE.shared():
            self._kept.clear()
            self._captured.clear()
            self._session = None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the model is closed; load the artifact again")

    def _run(self, inputs: Mapping[str, Any]) -> FloatArray:
        shape = (*inputs["input_ids"].shape, len(inputs["slots"]))
        with self._lock:
            self._check_open()
            if self._is_to_be_captured(shape):
                try:
                    return self._capture(shape, inputs)
                except self._errors as error:
                    self._uncapturable.add(shape)
                    logger.warning("%d x %d tokens run without a CUDA graph: %s", *shape[:2], error)
            with GATE.shared():
                return self._run_on(self._buffers(shape, inputs), inputs)

    def _capture(self, shape: Shape, inputs: Mapping[str, Any]) -> FloatArray:
        """Run a shape for the first time: ONNX Runtime captures it, and replays it in later runs with the same id."""
        logger.debug("capturing a CUDA graph for %d x %d tokens", *shape[:2])
        with GATE.alone():
            buffers = self._bind(inputs, cuda_graph=str(next(self._graph_ids)))
            for _ in range(SETTLING_RUNS):
                self._run_on(replace(buffers, options=self._options(NO_CUDA_GRAPH)), inputs)
            logits = self._run_on(buffers, inputs)
        self._captured[shape] = buffers
        return logits

    def _run_on(self, buffers: _Buffers, inputs: Mapping[str, Any]) -> FloatArray:
        buffers.ids.update_inplace(np.stack([inputs[name] for name in INPUTS_PER_TOKEN]))  # slots never change
        self._session.run_with_iobinding(buffers.binding, buffers.options)
        logits: FloatArray = buffers.output.numpy().copy()  # on the processor, numpy() is a view of the buffer
        return logits

    def _is_to_be_captured(self, shape: Shape) -> bool:
        if not self._cuda_graphs or shape[0] * shape[1] > CUDA_GRAPH_TOKENS or len(self._captured) >= MAX_CUDA_GRAPHS:
            return False
        return shape not in self._captured and shape not in self._uncapturable

    def _buffers(self, shape: Shape, inputs: Mapping[str, Any]) -> _Buffers:
        if shape in self._captured:
            return self._captured[shape]
        if shape not in self._kept:
            while len(self._kept) >= MAX_SHAPES:
                evicted, _ = self._kept.popitem(last=False)
                logger.debug("dropping the buffers of %d x %d tokens", *evicted[:2])
            self._kept[shape] = self._bind(inputs, NO_CUDA_GRAPH)
        self._kept.move_to_end(shape)
        return self._kept[shape]

    def _bind(self, inputs: Mapping[str, Any], cuda_graph: str) -> _Buffers:
        def allocate(shape: Sequence[int], dtype: Any) -> Any:
            return self._ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self._device, self._number)

        dtype, shape = inputs["input_ids"].dtype, inputs["input_ids"].shape
        ids, slots = allocate((len(INPUTS_PER_TOKEN), *shape), dtype.type), allocate(inputs["slots"].shape, dtype.type)
        slots.update_inplace(np.ascontiguousarray(inputs["slots"], dtype))
        output = allocate([len(inputs["input_ids"]), len(inputs["slots"]), self._labels], np.float32)
        binding = self._session.io_binding()
        for i, name in enumerate(INPUTS_PER_TOKEN):
            address = ids.data_ptr() + i * dtype.itemsize * math.prod(shape)
            binding.bind_input(name, self._device, self._number, dtype.type, list(shape), address)
        binding.bind_ortvalue_input("slots", slots)
        binding.bind_ortvalue_output(self._output, output)
        return _Buffers(ids, slots, output, binding, self._options(cuda_graph))

    def _options(self, cuda_graph: str) -> Any:
        if not self._cuda_graphs:
            return None
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", cuda_graph)
        return options


def run_errors(ort: Any) -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a run on bound buffers that fails."""
    return *runtime_errors(ort), RuntimeError

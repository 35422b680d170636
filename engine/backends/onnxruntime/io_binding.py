"""Run an ONNX Runtime session on buffers of the device that stay where they are (IO binding), and as CUDA graphs.

feeds ─copy─▶ buffers of the shape ─run or replay─▶ buffer of the logits ─copy─▶ logits
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modernrank.backends.profiles import GRAPH_TOKENS
from modernrank.batching.packing import FloatArray

# Shapes whose buffers are kept, the longest unused given up: some megabytes.
MOST_SHAPES = 32
# ONNX Runtime keeps a captured graph, and its memory, until the session closes.
MOST_GRAPHS = 16
NO_GRAPH = "-1"

Shape = tuple[int, int]  # rows, tokens


class BoundRuns:
    """Runs of one session, one after the other. ``run`` is safe to call from several threads.

    Args:
        ort: the module ``onnxruntime``.
        session: an ``InferenceSession`` of a packed graph with one output.
        labels: how many the model has.
        device: ``"cuda"``, or ``"cpu"``, which needs no binding and shows that it is right.
        number: of the device.
        graphs: whether the session was opened with ``enable_cuda_graph``. The first MOST_GRAPHS small shapes are then
            captured, each in its first run, and replayed after.
    """

    def __init__(
        self, ort: Any, session: Any, labels: int, device: str = "cuda", number: int = 0, graphs: bool = False
    ) -> None:
        self._ort, self._session, self._labels = ort, session, labels
        self._device, self._number, self._graphs = device, number, graphs
        self._output = session.get_outputs()[0].name
        self._lock = threading.Lock()
        self._kept: OrderedDict[Shape, _Buffers] = OrderedDict()
        self._captured: dict[Shape, _Buffers] = {}

    def run(self, feeds: Mapping[str, Any]) -> FloatArray:
        """Logits, float32 ``[rows, slots, labels]``, of the inputs by name."""
        rows, tokens = feeds["input_ids"].shape
        with self._lock:  # a replay of a CUDA graph must not meet another run
            buffers = self._buffers((rows, tokens), feeds)
            for name, array in feeds.items():
                buffers.inputs[name].update_inplace(np.ascontiguousarray(array))
            self._session.run_with_iobinding(buffers.binding, buffers.options)
            logits: FloatArray = buffers.output.numpy().copy()  # of the processor's buffers, numpy() is a view
            return logits

    def _buffers(self, shape: Shape, feeds: Mapping[str, Any]) -> _Buffers:
        if shape in self._captured:
            return self._captured[shape]
        if self._graphs and shape[0] * shape[1] <= GRAPH_TOKENS and len(self._captured) < MOST_GRAPHS:
            self._captured[shape] = self._bind(feeds, graph=str(len(self._captured)))
            return self._captured[shape]
        if shape not in self._kept:
            while len(self._kept) >= MOST_SHAPES:
                self._kept.popitem(last=False)
            self._kept[shape] = self._bind(feeds, NO_GRAPH)
        self._kept.move_to_end(shape)
        return self._kept[shape]

    def _bind(self, feeds: Mapping[str, Any], graph: str) -> _Buffers:
        def allocate(shape: Sequence[int], dtype: Any) -> Any:
            return self._ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self._device, self._number)

        inputs = {name: allocate(array.shape, array.dtype.type) for name, array in feeds.items()}
        output = allocate([len(feeds["input_ids"]), len(feeds["slots"]), self._labels], np.float32)
        binding = self._session.io_binding()
        for name, bound in inputs.items():
            binding.bind_ortvalue_input(name, bound)
        binding.bind_ortvalue_output(self._output, output)
        options = None
        if self._graphs:
            options = self._ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", graph)
        return _Buffers(inputs, output, binding, options)


class _Buffers:
    """The inputs and the output of one shape on the device, and how a run finds them."""

    def __init__(self, inputs: dict[str, Any], output: Any, binding: Any, options: Any) -> None:
        self.inputs, self.output, self.binding, self.options = inputs, output, binding, options

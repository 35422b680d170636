"""Run a float16 graph on a processor as a GPU would: float32 inside each node, float16 between nodes.

ONNX Runtime has no float16 kernels for processors: it would run the graph in float32 without any rounding. Casts around
every node round as a GPU does, because GPU kernels add in float32 and store float16:

    float16 ─▶ Cast to float32 ─▶ node ─▶ Cast to float16 ─▶
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from modernrank.arrays import FloatArray
from modernrank.artifact.manifest import OnnxGraph
from modernrank.backends.base import Backend, BackendInfo
from modernrank.backends.onnxruntime.cpu import CpuSettings, OnnxRuntimeCpuBackend
from modernrank.backends.registry import PROVIDERS
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy
from modernrank.export.graph.dialects import DIALECTS
from modernrank.host import available_threads

FLOAT16, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
# Nodes that only move values. They keep the type of their input, so there is nothing to round.
MOVES = {"Cast", "Concat", "Constant", "Gather", "Identity", "Reshape", "Slice"}
MOVES |= {"Split", "Squeeze", "Transpose", "Unsqueeze", "Where"}
OTHER_TYPES = {
    **dict.fromkeys(("Equal", "LessOrEqual", "Greater", "And"), TensorProto.BOOL),
    "Shape": TensorProto.INT64,
}


@contextmanager
def backend_on_processor(folder: Path, graph: OnnxGraph, labels: int, workers: int = 1) -> Iterator[Backend]:
    """Open a backend for any graph on all threads of the processor; float16 is emulated.

    Args:
        folder: of the artifact.
        graph: one of its graphs.
        labels: number of the model's labels.
        workers: number of batches that run side by side.
    """
    step = DIALECTS[graph.dialect].width_step if graph.dialect in DIALECTS else 1
    with ExitStack() as opened:
        if graph.precision == "fp16":
            emulated = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            folder, graph = emulated, write_emulation(folder, graph, emulated)
        settings = CpuSettings(available_threads(), workers)
        backend: Backend = OnnxRuntimeCpuBackend(folder, graph, labels, settings, PROVIDERS["cpu"])
        yield opened.enter_context(closing(_InWidthSteps(backend, step)))


class _InWidthSteps(Backend):
    """Runs batches as wide as the graph's dialect demands, as the backends for GPUs do: padded to the next step."""

    def __init__(self, backend: Backend, step: int) -> None:
        self._backend, self._step = backend, step

    @property
    def info(self) -> BackendInfo:
        return self._backend.info

    @property
    def policy(self) -> BatchPolicy:
        return self._backend.policy

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        rows, tokens = batch.input_ids.shape
        padded = batch.padded(rows, tokens + -tokens % self._step, batch.slots)
        return self._backend.run(padded, side_by_side)

    def close(self) -> None:
        self._backend.close()


def write_emulation(folder: Path, graph: OnnxGraph, out: Path) -> OnnxGraph:
    """Write to the folder ``out`` a float32 graph that rounds where the float16 ``graph`` in ``folder`` does.

    Returns:
        The record of the graph in ``out``, for float32 kernels.
    """
    model = onnx.load(folder / graph.file, load_external_data=False)
    _put_casts_around_nodes(model)
    onnx.save(model, out / graph.file)
    if graph.data:
        shutil.copyfile(folder / graph.data, out / graph.data)
    return replace(graph, dialect="ort-cpu")


def _put_casts_around_nodes(model: onnx.ModelProto) -> None:
    types = {info.name: info.type.tensor_type.elem_type for info in model.graph.input}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    widened: dict[str, str] = {}
    for node in model.graph.node:
        kind = _output_type(node, types)
        outputs = [name for name in node.output if name]
        types |= dict.fromkeys(outputs, kind)
        if node.op_type in MOVES or FLOAT16 not in (kind, *(types.get(name) for name in node.input)):
            nodes.append(node)
            continue
        inside = onnx.NodeProto()
        inside.CopyFrom(node)
        for i, name in enumerate(node.input):
            if types.get(name) == FLOAT16:
                if name not in widened:
                    widened[name] = f"{name}/as_float32"
                    nodes.append(_cast(name, widened[name], FLOAT))
                inside.input[i] = widened[name]
        nodes.append(inside)
        if kind == FLOAT16:
            inside.output[:] = [name and f"{name}/exact" for name in node.output]
            nodes += [_cast(f"{name}/exact", name, FLOAT16) for name in outputs]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _output_type(node: onnx.NodeProto, types: dict[str, int]) -> int:
    """The element type of a node's output: by its operator, else as its first float input, else as its first."""
    if node.op_type == "Cast":
        return int(next(a.i for a in node.attribute if a.name == "to"))
    if node.op_type in OTHER_TYPES:
        return int(OTHER_TYPES[node.op_type])
    inputs = [types[name] for name in node.input if name]
    return next((kind for kind in inputs if kind in (FLOAT16, FLOAT)), inputs[0])


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=kind)

"""A thin builder of ONNX graphs: scopes name the nodes as paths, large constants stream to a data file.

A value is the name of a tensor in the graph. Nodes are named by the scopes around them and their operator, so that a
profile reads like the model: ``/layers.0/attn/q_proj/MatMul``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NewType

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modernrank import __version__

from .float_types import FloatType, onnx_type

Value = NewType("Value", str)

CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
EXTERNAL_FROM = 1024  # bytes; smaller constants stay inside the .onnx file
COMPARED_AT_ONCE = 1 << 24  # bytes
OPSET = 23  # of ONNX's standard operators: the first with Attention and RotaryEmbedding
REDUCE_MAX_TAKES_AXES = 18  # the opset in which they became an input
IR_VERSION = 10
ALIGNMENT = 4096  # bytes; lets a runtime map the data file into memory page by page


def data_file(model: Path) -> Path:
    """The file of the large constants of the graph in the file ``model``."""
    return model.with_name(model.name + ".data")


def short_file(model: Path) -> Path:
    """The file of the graph for short rows, which shares the large constants of the graph in the file ``model``.

    >>> short_file(Path("model.fp16.onnx")).name
    'model.fp16.short.onnx'
    """
    return model.with_suffix(f".short{model.suffix}")


class GraphBuilder:
    """Collects the nodes and constants of one model, and writes its data file constant by constant.

    Use it as a context manager, which closes the data file.

    Args:
        data_file: what large constants are written to.
        opset: version of ONNX's standard operators.
        ir_version: of the file's format. A runtime refuses a later one than it knows.
    """

    def __init__(self, data_file: Path, opset: int = OPSET, ir_version: int = IR_VERSION) -> None:
        self.opset = opset
        self._ir_version = ir_version
        self._data_name = data_file.name
        self._data = data_file.open("w+b")
        self._written: dict[str, TensorProto] = {}  # in the data file
        self._start()

    def _start(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._scopes: list[str] = []
        self._used: dict[str, int] = {}

    def __enter__(self) -> GraphBuilder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._data.close()

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of what is made inside with ``name``: ``/outer/name/..``."""
        self._scopes.append(name)
        yield
        self._scopes.pop()

    @contextmanager
    def top(self) -> Iterator[None]:
        """Leave the outer scopes out of the names of what is made inside, for constants that several scopes share."""
        outer, self._scopes = self._scopes, []
        yield
        self._scopes = outer

    def op(self, operator: str, *inputs: Value | None, domain: str = "", **attributes: Any) -> Value:
        """Add a node of one output; None leaves out an optional input."""
        name = self._unique("/".join(["", *self._scopes, operator]))
        node = helper.make_node(operator, [i or "" for i in inputs], [name], name=name, domain=domain, **attributes)
        self._nodes.append(node)
        return Value(name)

    def name(self, value: Value, name: str) -> Value:
        """Call ``value`` by ``name``, without the scopes around it."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"/{name}"))
        return Value(name)

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> Value:
        """A named constant, such as a weight."""
        path = self._unique(".".join([*self._scopes, name]))
        self._constants[path] = self._tensor(path, np.asarray(value, order="C"))
        return Value(path)

    def ints(self, *values: int) -> Value:
        """An int64 vector, made once for all callers that need it."""
        return self._shared("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def scalar(self, value: int | float) -> Value:
        """An int64 or float32 scalar, made once for all callers that need it."""
        return self._shared(
            f"{type(value).__name__}_{value}", np.array(value, np.int64 if isinstance(value, int) else np.float32)
        )

    def convert(self, value: Value, source: FloatType, target: FloatType) -> Value:
        """A value of type ``source`` as ``target``: a Cast, or the value itself where they agree."""
        return value if source is target else self.op("Cast", value, to=onnx_type(target))

    def largest(self, value: Value, axis: int) -> Value:
        """The maximum over an axis, which the result does not have any more."""
        if self.opset < REDUCE_MAX_TAKES_AXES:
            return self.op("ReduceMax", value, axes=[axis], keepdims=0)
        return self.op("ReduceMax", value, self.ints(axis), keepdims=0)

    def branch(self, condition: Value, then: Callable[[], Value], otherwise: Callable[[], Value]) -> Value:
        """Run ``then`` where the bool ``condition`` holds, else ``otherwise``; each makes a float tensor by a node."""
        bodies = {}
        for label, body in (("then_branch", then), ("else_branch", otherwise)):
            outer, self._nodes = self._nodes, []
            with self.scope(label):
                result = body()
            output = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
            bodies[label] = helper.make_graph(self._nodes, label, [], [output])
            self._nodes = outer
        return self.op("If", condition, **bodies)

    def restart(self) -> None:
        """Begin another graph with the same data file. A constant of the same name and content is not written again."""
        self._start()

    def rewrite(self, change: Callable[[list[onnx.NodeProto]], list[onnx.NodeProto]]) -> None:
        """Replace the nodes that were made so far by what ``change`` makes of them."""
        self._nodes = change(self._nodes)

    def model(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: dict[Value, onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model.

        Args:
            name: of the graph.
            inputs: their names, types and shapes.
            outputs: the output for each value that leaves the graph.
        """
        for value, info in outputs.items():
            self.name(value, info.name)
        graph = helper.make_graph(self._nodes, name, inputs, list(outputs.values()), list(self._constants.values()))
        domains = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIB, 1)]
        used = {node.domain for node in _all_nodes(graph)}
        return helper.make_model(
            graph,
            opset_imports=[d for d in domains if d.domain in used],
            ir_version=self._ir_version,
            producer_name="modernrank",
            producer_version=__version__,
        )

    def _unique(self, name: str) -> str:
        count = self._used[name] = self._used.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def _shared(self, name: str, value: np.ndarray[Any, Any]) -> Value:
        if name not in self._constants:
            self._constants[name] = self._tensor(name, value)
        return Value(name)

    def _holds(self, written: TensorProto, value: np.ndarray[Any, Any]) -> bool:
        """Whether the data file has the type, shape and bytes of ``value`` in a tensor."""
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        if written.data_type != kind or tuple(written.dims) != value.shape:
            return False
        end = self._data.tell()
        self._data.seek(int(next(entry.value for entry in written.external_data if entry.key == "offset")))
        expected = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        parts = np.split(expected, range(COMPARED_AT_ONCE, len(expected), COMPARED_AT_ONCE))
        same = all(self._data.read(len(part)) == part.tobytes() for part in parts)
        self._data.seek(end)
        return same

    def _tensor(self, name: str, value: np.ndarray[Any, Any]) -> TensorProto:
        if value.nbytes < EXTERNAL_FROM:
            return numpy_helper.from_array(value, name)
        known = self._written.get(name)
        if known is not None and self._holds(known, value):
            return known
        self._data.write(b"\0" * (-self._data.tell() % ALIGNMENT))
        tensor = self._written[name] = TensorProto(
            name=name,
            dims=value.shape,
            data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, entry in (("location", self._data_name), ("offset", self._data.tell()), ("length", value.nbytes)):
            tensor.external_data.add(key=key, value=str(entry))
        self._data.write(value.data)
        return tensor


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of its branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)

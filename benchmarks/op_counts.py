"""What a graph and a plan cost. It is counted and not timed, so that noise does not change it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from modernrank.artifact.folder import Artifact
from modernrank.batching.packing import Plan

# Operators that multiply activations by a weight, and the position of the weight among their inputs.
PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "Gemm": 1, "MatMulIntegerToFloat": 1}


@dataclass(frozen=True)
class GraphCounts:
    """What one graph costs.

    nodes:        number of nodes of each operator, those in branches of an ``If`` included.
    linear_flops: number of operations for each token in products with weights, floating-point or integer. An addition
                  counts as one, and so does a multiplication.
    weight_bytes: number of bytes of these weights, which each run reads once.
    """

    nodes: dict[str, int]
    linear_flops: int
    weight_bytes: int


def count_graph(file: Path) -> GraphCounts:
    """Count a graph of ``file``. Its weights are not read.

    The classifier's head runs once for each pair, but counts here as if it ran for each token; its share is below 1 %.
    A product in both branches of an ``If`` counts twice; our graphs branch around attention only.
    """
    graph = onnx.load(file, load_external_data=False).graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(_nodes(graph))
    used = [
        weights[node.input[PRODUCTS[node.op_type]]]
        for node in nodes
        if node.op_type in PRODUCTS and node.input[PRODUCTS[node.op_type]] in weights
    ]
    return GraphCounts(
        nodes=dict(sorted(Counter(node.op_type for node in nodes).items())),
        linear_flops=sum(2 * _size(weight) for weight in used),
        weight_bytes=sum(_size(weight) * _width(weight) for weight in used),
    )


def flops_per_token(artifact: Artifact, precision: str, dialect: str) -> int | None:
    """``linear_flops`` of the artifact's graph in a precision and a dialect; None if it has no such graph."""
    for graph in artifact.manifest.graphs:
        if (graph.precision, graph.dialect) == (precision, dialect):
            return count_graph(artifact.folder / graph.file).linear_flops
    return None


@dataclass(frozen=True)
class PlanCounts:
    """What carrying out a plan costs.

    runs:         number of runs of the graph.
    linear_flops: number of operations in products with weights.
    weight_bytes: number of bytes of weights that are read.
    padding:      share of the computed tokens that is padding.
    """

    runs: int
    linear_flops: int
    weight_bytes: int
    padding: float


def count_plan(plan: Plan, graph: GraphCounts) -> PlanCounts:
    """What carrying out ``plan`` on ``graph`` costs."""
    return PlanCounts(
        runs=len(plan.batches),
        linear_flops=plan.computed_tokens * graph.linear_flops,
        weight_bytes=len(plan.batches) * graph.weight_bytes,
        padding=plan.waste,
    )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _size(tensor: Any) -> int:
    size = 1
    for extent in tensor.dims:
        size *= extent
    return size


def _width(tensor: Any) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)

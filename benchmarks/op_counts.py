"""What a graph and a plan cost, counted and not timed: figures that noise cannot move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from modernrank.batching.packing import Plan

# Operators that multiply activations by a weight, and the place of the weight among their inputs.
PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "Gemm": 1, "MatMulIntegerToFloat": 1}


@dataclass(frozen=True)
class GraphCounts:
    """Of one graph.

    nodes:        how many nodes of each operator, those in branches of an ``If`` too.
    linear_flops: floating-point or integer operations a token in products with weights; an addition counts as one.
    weight_bytes: bytes of these weights, which each run reads once.
    """

    nodes: dict[str, int]
    linear_flops: int
    weight_bytes: int


def count_graph(file: Path) -> GraphCounts:
    """Read the graph without its weights.

    A classifier's head works once a pair, not once a token: its share, under 1 %, is counted as if it did. A product
    in both branches of an ``If`` counts twice; our graphs branch around attention only.
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


@dataclass(frozen=True)
class PlanCounts:
    """Of carrying out a plan: linear operations, bytes of weights read, runs, and the share of padding."""

    runs: int
    linear_flops: int
    weight_bytes: int
    padding: float


def count_plan(plan: Plan, graph: GraphCounts) -> PlanCounts:
    """What ``plan`` costs on ``graph``."""
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

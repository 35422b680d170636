"""Layers outside an encoder's own graph: their tensors, and their nodes in float32."""

from __future__ import annotations

import numpy as np

from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.builder import GraphBuilder, Value
from modernrank.export.graph.linear import FloatLinear


def linear(g: GraphBuilder, x: Value, name: str, weights: Weights, layer: str, has_bias: bool = True) -> Value:
    """``x @ weight.T + bias`` in the scope ``name``, with the tensors ``layer.weight`` and ``layer.bias``."""
    bias = weights.tensor(f"{layer}.bias") if has_bias else None
    with g.scope(name):
        return FloatLinear().product(g, x, layer, weights.tensor(f"{layer}.weight"), bias)


def layer_norm(
    g: GraphBuilder, x: Value, name: str, weights: Weights, layer: str, eps: float, has_bias: bool = True
) -> Value:
    """Layer normalisation over the last axis in the scope ``name``, with tensors as in ``linear``.

    A bias of zeros stands for none, because ONNX Runtime 1.17 dies of a layer norm without one.
    """
    weight = weights.tensor(f"{layer}.weight")
    bias = weights.tensor(f"{layer}.bias") if has_bias else np.zeros_like(weight)
    with g.scope(name):
        parameters = (g.constant("weight", weight), g.constant("bias", bias))
        return g.op("LayerNormalization", x, *parameters, epsilon=eps)


def linear_shapes(layer: str, outputs: int, inputs: int, has_bias: bool = True) -> dict[str, tuple[int, ...]]:
    """The tensors of a linear layer."""
    return {f"{layer}.weight": (outputs, inputs)} | ({f"{layer}.bias": (outputs,)} if has_bias else {})


def norm_shapes(layer: str, width: int, has_bias: bool = True) -> dict[str, tuple[int, ...]]:
    """The tensors of a layer normalisation."""
    return {f"{layer}.{kind}": (width,) for kind in ("weight", *(["bias"] if has_bias else []))}

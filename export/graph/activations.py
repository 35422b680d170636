"""Activation functions inside a model, by their names in ``transformers``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from modernrank.errors import ArtifactError

from .builder import GraphBuilder, Value

GELU_OPSET = 20  # the first with Gelu


def _gelu(g: GraphBuilder, x: Value) -> Value:
    """``x (1 + erf(x / sqrt(2))) / 2``; ONNX Runtime makes one node of what older opsets spell out."""
    if g.opset >= GELU_OPSET:
        return g.op("Gelu", x)
    erf = g.op("Erf", g.op("Div", x, g.scalar(math.sqrt(2))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", erf, g.scalar(1.0))), g.scalar(0.5))


def _gelu_tanh(g: GraphBuilder, x: Value) -> Value:
    """``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``."""
    if g.opset >= GELU_OPSET:
        return g.op("Gelu", x, approximate="tanh")
    inner = g.op("Add", x, g.op("Mul", g.op("Pow", x, g.scalar(3.0)), g.scalar(0.044715)))
    tanh = g.op("Tanh", g.op("Mul", inner, g.scalar(math.sqrt(2 / math.pi))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", tanh, g.scalar(1.0))), g.scalar(0.5))


def _silu(g: GraphBuilder, x: Value) -> Value:
    return g.op("Mul", x, g.op("Sigmoid", x))


def _relu(g: GraphBuilder, x: Value) -> Value:
    return g.op("Relu", x)


def _leaky_relu(g: GraphBuilder, x: Value) -> Value:
    return g.op("LeakyRelu", x, alpha=0.01)


def _sigmoid(g: GraphBuilder, x: Value) -> Value:
    return g.op("Sigmoid", x)


def _tanh(g: GraphBuilder, x: Value) -> Value:
    return g.op("Tanh", x)


def _linear(g: GraphBuilder, x: Value) -> Value:
    return x


ACTIVATIONS: Mapping[str, Callable[[GraphBuilder, Value], Value]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "silu": _silu,
    "swish": _silu,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "linear": _linear,
}


def activation(g: GraphBuilder, x: Value, name: str) -> Value:
    """The activation function ``name`` of ``x``.

    Raises:
        ArtifactError: it is not one of ACTIVATIONS.
    """
    if name not in ACTIVATIONS:
        raise ArtifactError(
            f"activation {name!r} is not implemented; implemented are {', '.join(ACTIVATIONS)}",
            value=name,
            choices=tuple(ACTIVATIONS),
        )
    return ACTIVATIONS[name](g, x)

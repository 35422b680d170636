"""Activation functions inside a model, by their names in ``transformers``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modernrank.errors import ArtifactError

from .builder import GraphBuilder, Value


def _gelu(g: GraphBuilder, x: Value) -> Value:
    return g.op("Gelu", x)


def _gelu_tanh(g: GraphBuilder, x: Value) -> Value:
    return g.op("Gelu", x, approximate="tanh")


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

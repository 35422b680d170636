"""How the tokens of a pair become one vector. A new pooling is one function and one line of POOLINGS.

The names and the formulas are those of ``Pooling`` in sentence-transformers; ModernBERT's own ``classifier_pooling`` is
``cls`` or ``mean``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from modernrank.errors import ArtifactError
from modernrank.export.graph.builder import GraphBuilder, Value

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Slots:
    """Which tokens belong to which slot.

    tokens:  bool ``[rows, slots, tokens]``.
    weights: the same as float32.
    count:   number of each slot's tokens, float32 ``[rows, slots, 1]``.
    """

    tokens: Value
    weights: Value
    count: Value


# Takes the graph, hidden float32 ``[rows, tokens, width]`` and the slots. Returns the vectors, ``[rows, slots,
# width]``; those of a slot without tokens are finite.
Pooling = Callable[[GraphBuilder, Value, Slots], Value]


def _mean(g: GraphBuilder, hidden: Value, slots: Slots) -> Value:
    return _divided(g, g.op("MatMul", slots.weights, hidden), slots.count)


def _mean_sqrt_length(g: GraphBuilder, hidden: Value, slots: Slots) -> Value:
    """The sum over the square root of the number of tokens."""
    return _divided(g, g.op("MatMul", slots.weights, hidden), g.op("Sqrt", slots.count))


def _weighted_mean(g: GraphBuilder, hidden: Value, slots: Slots) -> Value:
    """The mean with the weights 1, 2, .. by position in the pair."""
    position = g.op("Add", g.op("Cast", Value("position_ids"), to=TensorProto.FLOAT), g.scalar(1.0))
    weights = g.op("Mul", slots.weights, g.op("Unsqueeze", position, g.ints(1)))
    return _divided(g, g.op("MatMul", weights, hidden), g.op("ReduceSum", weights, g.ints(2)))


def _first_token(g: GraphBuilder, hidden: Value, slots: Slots) -> Value:
    is_first = g.op("Not", g.op("Cast", Value("position_ids"), to=TensorProto.BOOL))  # ids may be int32 or int64
    return _only(g, hidden, slots, g.op("Unsqueeze", is_first, g.ints(1)))


def _last_token(g: GraphBuilder, hidden: Value, slots: Slots) -> Value:
    position = g.op("Unsqueeze", g.op("Cast", Value("position_ids"), to=TensorProto.FLOAT), g.ints(1))
    return _only(g, hidden, slots, g.op("Equal", position, g.op("Sub", slots.count, g.scalar(1.0))))


def _max(g: GraphBuilder, hidden: Value, slots: Slots) -> Value:
    of_slot = g.op("Unsqueeze", slots.tokens, g.ints(3))  # [rows, slots, tokens, 1]
    values = g.op("Where", of_slot, g.op("Unsqueeze", hidden, g.ints(1)), g.scalar(LOWEST))
    return g.largest(values, axis=2)


def _only(g: GraphBuilder, hidden: Value, slots: Slots, chosen: Value) -> Value:
    """The single token of each slot that is ``chosen``."""
    token = g.op("Cast", g.op("And", slots.tokens, chosen), to=TensorProto.FLOAT)
    return g.op("MatMul", token, hidden)


def _divided(g: GraphBuilder, total: Value, by: Value) -> Value:
    """A sum over ``by``, which is at least 1 wherever a slot has tokens."""
    return g.op("Div", total, g.op("Max", by, g.scalar(1.0)))


POOLINGS: Mapping[str, Pooling] = {
    "cls": _first_token,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}


def pool(g: GraphBuilder, hidden: Value, poolings: Sequence[str]) -> tuple[Value, Value]:
    """Pool each slot's tokens.

    Args:
        g: the graph; its inputs are those of a packed graph.
        hidden: float32 ``[rows, tokens, width]``.
        poolings: one or more of POOLINGS; the vectors of several are joined.

    Returns:
        The vectors, ``[rows, slots, poolings * width]``, and which slots have tokens, bool ``[rows, slots, 1]``.

    Raises:
        ArtifactError: a pooling is not implemented.
    """
    unknown = next((name for name in poolings if name not in POOLINGS), None)
    if unknown is not None:
        raise ArtifactError(
            f"pooling {unknown!r} is not implemented; implemented are {', '.join(POOLINGS)}",
            value=unknown,
            choices=tuple(POOLINGS),
        )
    numbers = g.op("Unsqueeze", Value("slots"), g.ints(0, 2))  # [1, slots, 1]
    tokens = g.op("Equal", numbers, g.op("Unsqueeze", Value("segment_ids"), g.ints(1)))
    weights = g.op("Cast", tokens, to=TensorProto.FLOAT)
    slots = Slots(tokens, weights, g.op("ReduceSum", weights, g.ints(2)))
    vectors = [POOLINGS[name](g, hidden, slots) for name in poolings]
    joined = vectors[0] if len(vectors) == 1 else g.op("Concat", *vectors, axis=2)
    return joined, g.op("Greater", slots.count, g.scalar(0.0))

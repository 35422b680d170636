"""How the tokens of a pair become one vector. A new pooling is one function and one line of POOLINGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import TensorProto

from modernrank.errors import ArtifactError
from modernrank.export.graph.builder import GraphBuilder, Value

# Takes the graph, hidden float32 ``[rows, tokens, hidden_size]``, and which tokens are a slot's, bool ``[rows, slots,
# tokens]``. Returns the vectors, ``[rows, slots, hidden_size]``, and which slots have one, bool ``[rows, slots, 1]``.
Pooling = Callable[[GraphBuilder, Value, Value], tuple[Value, Value]]


def _mean(g: GraphBuilder, hidden: Value, tokens: Value) -> tuple[Value, Value]:
    weights = g.op("Cast", tokens, to=TensorProto.FLOAT)
    count = g.op("ReduceSum", weights, g.ints(2))
    total = g.op("MatMul", weights, hidden)
    return g.op("Div", total, g.op("Max", count, g.scalar(1.0))), g.op("Greater", count, g.scalar(0.0))


def _first_token(g: GraphBuilder, hidden: Value, tokens: Value) -> tuple[Value, Value]:
    is_first = g.op("Not", g.op("Cast", Value("position_ids"), to=TensorProto.BOOL))  # ids may be int32 or int64
    return _mean(g, hidden, g.op("And", tokens, g.op("Unsqueeze", is_first, g.ints(1))))


POOLINGS: Mapping[str, Pooling] = {"cls": _first_token, "mean": _mean}


def pool(g: GraphBuilder, hidden: Value, pooling: str) -> tuple[Value, Value]:
    """Pool each slot's tokens.

    Args:
        g: the graph; its inputs are those of a packed graph.
        hidden: float32 ``[rows, tokens, hidden_size]``.
        pooling: one of POOLINGS: ``"mean"`` over a slot's tokens, or ``"cls"``, its first token.

    Returns:
        The vectors, ``[rows, slots, hidden_size]``, and which slots have tokens, bool ``[rows, slots, 1]``.

    Raises:
        ArtifactError: the pooling is not implemented.
    """
    if pooling not in POOLINGS:
        raise ArtifactError(
            f"pooling {pooling!r} is not implemented; implemented are {', '.join(POOLINGS)}",
            value=pooling,
            choices=tuple(POOLINGS),
        )
    slots = g.op("Unsqueeze", Value("slots"), g.ints(0, 2))  # [1, slots, 1]
    of_slot = g.op("Equal", slots, g.op("Unsqueeze", Value("segment_ids"), g.ints(1)))  # [rows, slots, tokens]
    return POOLINGS[pooling](g, hidden, of_slot)

"""How the tokens of a pair become one vector. A new pooling is one function and one line of POOLINGS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import TensorProto

from modernrank.errors import ArtifactError
from modernrank.export.graph.builder import GraphBuilder, Value

# Chooses the tokens whose mean is a slot's vector among the slot's tokens; both masks are bool ``[rows, slots,
# tokens]``.
ChooseTokens = Callable[[GraphBuilder, Value], Value]


def _all_tokens(g: GraphBuilder, of_slot: Value) -> Value:
    return of_slot


def _first_token(g: GraphBuilder, of_slot: Value) -> Value:
    is_first = g.op("Equal", Value("position_ids"), g.scalar(0))
    return g.op("And", of_slot, g.op("Unsqueeze", is_first, g.ints(1)))


POOLINGS: Mapping[str, ChooseTokens] = {"cls": _first_token, "mean": _all_tokens}


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
    weights = g.op("Cast", POOLINGS[pooling](g, of_slot), to=TensorProto.FLOAT)
    count = g.op("ReduceSum", weights, g.ints(2))
    total = g.op("MatMul", weights, hidden)
    return g.op("Div", total, g.op("Max", count, g.scalar(1.0))), g.op("Greater", count, g.scalar(0.0))

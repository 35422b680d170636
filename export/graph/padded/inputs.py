"""The front of a padded graph: it takes the real tokens of all rows out of the padding, into one packed row.

    input_ids        attention_mask          packed row
    a b c .          1 1 1 0                 a b c d e f g h i      token ids
    . . d e   and    0 0 1 1     become      1 1 1 2 2 3 3 3 3      segment_ids: the number of the token's row, from 1
    f g h i          1 1 1 1                 0 1 2 0 1 0 1 2 3      position_ids: columns from the row's first token on

The layers then compute no padding, wherever a row has it: on its right, on its left or between its tokens.
"""

from __future__ import annotations

from onnx import TensorProto

from modernrank.export.graph.builder import GraphBuilder, Value


def pack_inputs(g: GraphBuilder) -> Value:
    """Make ``segment_ids`` and ``position_ids`` ``[1, total]``, and ``slots`` ``[batch]``, from the graph's inputs.

    A batch without any real token keeps the first token of each row, in segment 0, because a layer cannot run on no
    tokens.

    Args:
        g: the graph; its inputs ``input_ids`` and ``attention_mask`` are int64 ``[batch, tokens]``.

    Returns:
        The token ids of the packed row, ``[1, total]``.
    """
    with g.scope("packing"):
        is_real = g.op("Cast", Value("attention_mask"), to=TensorProto.BOOL)
        is_one = g.op("Cast", is_real, to=TensorProto.INT64)  # whatever number the mask has for a real token
        batch, tokens = (g.op("Shape", is_real, start=axis, end=axis + 1) for axis in (0, 1))
        at = g.op("NonZero", g.op("Reshape", g.op("Or", is_real, _spare_tokens(g, is_one, tokens)), g.ints(-1)))
        row, column = g.op("Div", at, tokens), g.op("Mod", at, tokens)  # of each token, [1, total]
        # Column of each row's first token, [batch]. ONNX Runtime 1.17 has no kernel of ArgMax for int64.
        first = g.op("ArgMax", g.op("Cast", is_real, to=TensorProto.INT32), axis=1, keepdims=0)
        position = g.op("Sub", column, g.op("Gather", first, row, axis=0))
        real_here = g.op("Gather", g.op("Reshape", is_one, g.ints(-1)), at, axis=0)
        segment = g.op("Mul", g.op("Add", row, g.ints(1)), real_here)
        slots = g.op("Range", g.scalar(1), g.op("Add", g.op("Squeeze", batch), g.scalar(1)), g.scalar(1))
        for name, value in (("position_ids", position), ("segment_ids", segment), ("slots", slots)):
            g.name(value, name)
        return g.op("Gather", g.op("Reshape", Value("input_ids"), g.ints(-1)), at, axis=0)


def _spare_tokens(g: GraphBuilder, is_one: Value, tokens: Value) -> Value:
    """Bool ``[1, tokens]``: the first column, if the batch has no real token; otherwise nothing."""
    is_empty = g.op("Equal", g.op("ReduceSum", is_one, keepdims=0), g.scalar(0))
    column = g.op("Range", g.scalar(0), g.op("Squeeze", tokens), g.scalar(1))
    return g.op("Unsqueeze", g.op("And", is_empty, g.op("Equal", column, g.scalar(0))), g.ints(0))

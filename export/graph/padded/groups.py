"""Which tokens of a packed row attend together: indices that are computed once for all layers.

Tokens attend in groups of equal size, so that one batched product computes all of them. Global layers have a group for
each text, sliding layers one for each block of a text:

    packed row   a a a b b c c c c c        texts   a a a . .       blocks   queries    keys
                                                    b b . . .                a a a      a a a .
                                                    c c c c c                b b .      b b . .
                                                                             c c c      c c c c
                                                                             c c .      c c c c

A dot is some other token, masked as a key and not read as a query. No group is wider than the longest text, so short
texts are not computed in whole blocks. The indices point to the heads of tokens, which are the rows of a matrix
``[total * heads, head_size]``: a ``Gather`` takes tokens apart into heads, and another puts them together again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from modernrank.export.graph.attention import BLOCK, FORBIDDEN
from modernrank.export.graph.builder import GraphBuilder, Value


@dataclass(frozen=True)
class Texts:
    """The texts of a packed row.

    positions: of all tokens, ``[total]``.
    last:      the number of the last token, a scalar.
    text:      the text of each token, ``[total]``.
    rank:      the token's number in its text, ``[total]``.
    starts:    the first token of each text, ``[texts, 1]``.
    counts:    the number of its tokens, ``[texts, 1]``.
    longest:   the number of tokens of the longest, a scalar of at least 1.
    """

    positions: Value
    last: Value
    text: Value
    rank: Value
    starts: Value
    counts: Value
    longest: Value


@dataclass(frozen=True)
class Groups:
    """Which tokens attend together.

    queries: where the heads of the queries are, ``[heads, groups, queries]``.
    keys:    where those of the keys are, ``[heads, groups, keys]``.
    mask:    what is added to the scores, float32, broadcastable to ``[groups, queries, keys]``.
    back:    where the heads of each token are among those of the queries, ``[total, heads]``.
    """

    queries: Value
    keys: Value
    mask: Value
    back: Value


def find_texts(g: GraphBuilder, segment_ids: Value, position_ids: Value) -> Texts:
    """The texts of one packed row whose segments are 1, 2, .. in order, all of them in ``slots``.

    Args:
        g: the graph.
        segment_ids: ``[1, total]``. Tokens of segment 0 count as the first text's, and nothing reads what they give.
        position_ids: ``[1, total]``.
    """
    with g.scope("texts"):
        of_text = g.op("Equal", g.op("Unsqueeze", Value("slots"), g.ints(1)), segment_ids)  # [texts, total]
        counts = _count(g, of_text, keepdims=1)
        starts = g.op("CumSum", counts, g.scalar(0), exclusive=1)
        longest = g.op("Max", g.op("ReduceMax", counts, keepdims=0), g.scalar(1))
        text = g.op("Max", g.op("Sub", g.op("Squeeze", segment_ids, g.ints(0)), g.scalar(1)), g.scalar(0))
        total = g.op("Size", segment_ids)
        start = g.op("Squeeze", g.op("Gather", starts, text, axis=0), g.ints(1))
        rank = g.op("Min", g.op("Sub", _range(g, total), start), g.op("Sub", longest, g.scalar(1)))
        positions = g.op("Squeeze", position_ids, g.ints(0))
        return Texts(positions, g.op("Sub", total, g.scalar(1)), text, rank, starts, counts, longest)


def whole_texts(g: GraphBuilder, texts: Texts, heads: int) -> Groups:
    """One group for each text, of as many queries and keys as the longest has tokens."""
    with g.scope("whole"):
        rank = _range(g, texts.longest)
        tokens = g.op("Min", g.op("Add", texts.starts, rank), texts.last)  # [texts, longest]
        mask = _added(g, g.op("Unsqueeze", g.op("Less", rank, texts.counts), g.ints(1)))
        places = g.op("Add", g.op("Mul", texts.text, texts.longest), texts.rank)
        heads_at = _heads_of(g, tokens, heads)
        return Groups(heads_at, heads_at, mask, _back(g, places, tokens, heads))


def blocks(g: GraphBuilder, texts: Texts, heads: int, reach: int) -> Groups:
    """Groups of at most BLOCK queries, and the keys within ``reach`` of them.

    The longest text is cut into equal blocks, and all others into blocks of the same size. A text without tokens has
    one, so that a batch is never without blocks.
    """
    one = g.scalar(1)
    with g.scope("blocks"):
        number = _ceiling(g, texts.longest, g.scalar(BLOCK))  # of blocks in the longest text
        size = _ceiling(g, texts.longest, number)
        window = g.op("Min", g.op("Add", size, g.scalar(2 * reach)), texts.longest)  # keys of a block
        is_block = g.op("Less", g.op("Mul", _range(g, number), size), g.op("Max", texts.counts, one))  # [texts, number]
        text, block = (g.op("Gather", g.op("NonZero", is_block), g.scalar(i), axis=0) for i in (0, 1))
        first = g.op("Unsqueeze", g.op("Mul", block, size), g.ints(1))  # rank of each block's first query
        first_key = g.op("Min", g.op("Sub", first, g.scalar(reach)), g.op("Sub", texts.longest, window))
        first_key = g.op("Max", first_key, g.scalar(0))
        query, key = (g.op("Add", start, _range(g, width)) for start, width in ((first, size), (first_key, window)))
        start = g.op("Gather", texts.starts, text, axis=0)
        queries, keys = (g.op("Min", g.op("Add", start, rank), texts.last) for rank in (query, key))
        is_key = g.op("Unsqueeze", g.op("Less", key, g.op("Gather", texts.counts, text, axis=0)), g.ints(1))
        mask = _added(g, g.op("And", _is_near(g, texts, queries, keys, reach), is_key))
        before = g.op("CumSum", _count(g, is_block, keepdims=0), g.scalar(0), exclusive=1)  # blocks of earlier texts
        block_of = g.op("Add", g.op("Gather", before, texts.text, axis=0), g.op("Div", texts.rank, size))
        places = g.op("Add", g.op("Mul", block_of, size), g.op("Mod", texts.rank, size))
        return Groups(_heads_of(g, queries, heads), _heads_of(g, keys, heads), mask, _back(g, places, queries, heads))


def _is_near(g: GraphBuilder, texts: Texts, queries: Value, keys: Value, reach: int) -> Value:
    """Which positions are within ``reach``: of tokens ``[groups, n]`` and ``[groups, m]``, bool ``[groups, n, m]``."""
    query, key = (
        g.op("Unsqueeze", g.op("Gather", texts.positions, tokens, axis=0), g.ints(axis))
        for tokens, axis in ((queries, 2), (keys, 1))
    )
    return g.op("LessOrEqual", g.op("Abs", g.op("Sub", query, key)), g.scalar(reach))


def _heads_of(g: GraphBuilder, tokens: Value, heads: int) -> Value:
    """Where the heads of tokens ``[groups, n]`` are, ``[heads, groups, n]``."""
    head = g.constant("heads", np.arange(heads, dtype=np.int64)[:, None, None])
    return g.op("Add", g.op("Mul", tokens, g.scalar(heads)), head)


def _back(g: GraphBuilder, places: Value, queries: Value, heads: int) -> Value:
    """Where the heads of tokens are, ``[total, heads]``, whose ``places`` ``[total]`` are among ``queries``."""
    first = g.op("Mul", g.constant("head", np.arange(heads, dtype=np.int64)), g.op("Size", queries))
    return g.op("Add", g.op("Unsqueeze", places, g.ints(1)), first)


def _added(g: GraphBuilder, allowed: Value) -> Value:
    """0 where allowed, FORBIDDEN elsewhere."""
    return g.op("Where", allowed, g.scalar(0.0), g.scalar(FORBIDDEN))


def _range(g: GraphBuilder, end: Value) -> Value:
    """0, 1, .. up to the scalar ``end``."""
    return g.op("Range", g.scalar(0), end, g.scalar(1))


def _count(g: GraphBuilder, flags: Value, keepdims: int) -> Value:
    """How many of each row of ``flags`` are set."""
    return g.op("ReduceSum", g.op("Cast", flags, to=TensorProto.INT64), g.ints(1), keepdims=keepdims)


def _ceiling(g: GraphBuilder, value: Value, divisor: Value) -> Value:
    """``value / divisor``, rounded up."""
    return g.op("Div", g.op("Add", value, g.op("Sub", divisor, g.scalar(1))), divisor)

"""Attention of a padded graph in products and softmax, over the groups of ``groups.py``."""

from __future__ import annotations

import numpy as np

from modernrank.export.graph.attention import AttentionShape, PackedAttention
from modernrank.export.graph.builder import GraphBuilder, Value
from modernrank.export.graph.float_types import FloatType

from .groups import Groups, blocks, find_texts, whole_texts


class UnpaddedAttention(PackedAttention):
    """For one packed row whose segments are 1, 2, .. in order, in float32.

    Heads are gathered, not transposed, and masks are added, because every runtime has fast products and additions. A
    global layer holds a matrix ``texts x longest x longest`` for each head.
    """

    def __init__(self, g: GraphBuilder, shape: AttentionShape, segment_ids: Value, position_ids: Value) -> None:
        super().__init__(g, shape, segment_ids, position_ids)
        self._angles: dict[Value, Value] = {}
        with g.scope("groups"):
            self.texts = find_texts(g, segment_ids, position_ids)
            self.whole = whole_texts(g, self.texts, self.heads)
            self.blocks = blocks(g, self.texts, self.heads, self.reach)

    def rotate(self, x: Value, cos: Value, sin: Value, dtype: FloatType) -> Value:
        """With a and b as the halves of a head, ``[a, b] [cos, cos] + [b, a] [-sin, sin]``."""
        g = self.g
        halves = g.op("Reshape", x, g.ints(-1, 2, self.head_size // 2))
        swapped = g.op("Reshape", g.op("Gather", halves, g.ints(1, 0), axis=1), g.ints(1, -1, self.width))
        cos, sin = self._at_positions(cos, sign=1), self._at_positions(sin, sign=-1)
        return g.op("Add", g.op("Mul", x, cos), g.op("Mul", swapped, sin))

    def global_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Attend in whole texts."""
        return self._attend(q, k, v, self.whole)

    def sliding_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Attend in blocks."""
        return self._attend(q, k, v, self.blocks)

    def _attend(self, q: Value, k: Value, v: Value, groups: Groups) -> Value:
        """Softmax attention in each group and head, ``[1, total, width]`` as are ``q``, ``k`` and ``v``."""
        g = self.g
        q, k, v = (
            g.op("Gather", g.op("Reshape", x, g.ints(-1, self.head_size)), heads_at, axis=0)
            for x, heads_at in ((q, groups.queries), (k, groups.keys), (v, groups.keys))
        )
        scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))  # [heads, groups, queries, keys]
        shares = g.op("Softmax", g.op("Add", scores, groups.mask), axis=-1)
        mixed = g.op("Reshape", g.op("MatMul", shares, v), g.ints(-1, self.head_size))
        return g.op("Reshape", g.op("Gather", mixed, groups.back, axis=0), g.ints(1, -1, self.width))

    def _at_positions(self, table: Value, sign: int) -> Value:
        """The rows of a table at the tokens' positions, for both halves of each head, ``[total, width]``.

        Rotated queries and keys each carry the root of the scale of the scores, which then costs nothing.

        Args:
            table: ``[positions, head_size / 2]``.
            sign: of the first half.
        """
        if table not in self._angles:
            g = self.g
            with g.top(), g.scope("angles"):
                rows = g.op("Gather", table, self.texts.positions, axis=0)
                signs = np.repeat(np.array([sign, 1], np.float32), self.head_size // 2) * np.float32(self.scale**0.5)
                halves = g.op("Mul", g.op("Concat", rows, rows, axis=1), g.constant("signs", signs))
                self._angles[table] = g.op("Tile", halves, g.ints(1, self.heads))
        return self._angles[table]

"""Attention over packed rows, in the dialects that runtimes prefer.

A token attends to the tokens of its own pair: those with the same segment id. Padding (segment 0) attends to
padding, so that every token has something to attend to and no softmax divides 0 by 0. Global layers see the
whole pair, sliding layers only ``reach`` tokens to either side.

Sliding attention is computed in blocks, so that its cost grows with the length, not with its square:

        row     | block 0 | block 1 | block 2 | block 3 |          each of BLOCK tokens
                     ┌─────────┬─────────┐
    queries          │         │ block 2 │
    keys       reach │◀ block 2 and its neighbours ▶│ reach         the window: reach + BLOCK + reach tokens

                keys ─▶  ......■■■■■■■......
    queries of a block   .......■■■■■■■.....        ■ within reach of the query: allowed, if of the same pair
                         ........■■■■■■■....        . in the window only for the block's other queries

A row of any length works: queries and keys past its end are copies of its last token, kept apart or cut off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ..config import ModernBertConfig
from .builder import CONTRIB, GraphBuilder, Value

BLOCK = 64  # queries in a block
FORBIDDEN = -1e4  # added to a forbidden score: finite, and 0 after softmax, in fp16 too


class PackedAttention(ABC):
    """What a dialect provides. Its masks are computed once, in the constructor, for all layers.

    Args:
        g: the graph that the nodes go to.
        config: the model's shape.
        segment_ids: int64 ``[rows, tokens]``.
    """

    def __init__(self, g: GraphBuilder, config: ModernBertConfig, segment_ids: Value) -> None:
        self.g = g
        self.heads = config.num_attention_heads
        self.scale = config.head_size**-0.5
        self.width = config.hidden_size
        self.reach = config.reach
        self.segment_ids = segment_ids

    @abstractmethod
    def global_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Every token sees its whole pair. All are ``[rows, tokens, width]``."""

    @abstractmethod
    def sliding_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Every token sees ``reach`` tokens of its pair to either side. All are ``[rows, tokens, width]``."""


class StandardAttention(PackedAttention):
    """Standard ONNX operators only, no control flow: loads wherever opset 23 does."""

    def __init__(self, g: GraphBuilder, config: ModernBertConfig, segment_ids: Value) -> None:
        super().__init__(g, config, segment_ids)
        with g.scope("masks"):
            self.rows = g.op("Shape", segment_ids, start=0, end=1)
            self.tokens = g.op("Shape", segment_ids, start=1, end=2)
            self._index_blocks()
            self._make_masks()

    def global_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Attend over whole rows under the mask of segments."""
        return self.attend(q, k, v, self.global_mask)

    def sliding_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Cut the row into blocks, attend in each, put the row together again."""
        g = self.g
        q = g.op("Reshape", g.op("Gather", q, self.query_at, axis=1), self.query_shape)
        k = g.op("Reshape", g.op("Gather", k, self.key_at, axis=1), self.key_shape)
        v = g.op("Reshape", g.op("Gather", v, self.key_at, axis=1), self.key_shape)
        mixed = g.op("Reshape", self.attend(q, k, v, self.sliding_mask), self.padded_row_shape)
        return g.op("Slice", mixed, g.ints(0), self.tokens, g.ints(1))

    def attend(self, q: Value, k: Value, v: Value, mask: Value) -> Value:
        """Softmax attention under a mask ``[batch, 1, queries, keys]``."""
        return self.g.op("Attention", q, k, v, mask, q_num_heads=self.heads, kv_num_heads=self.heads, scale=self.scale)

    def _make_masks(self) -> None:
        self.global_mask = self._same_segment_mask()
        self.sliding_mask = self._block_mask()

    def _index_blocks(self) -> None:
        """Where the queries and keys of each block are in a row, and the shapes that cut it.

        query_position [blocks, BLOCK] and key_position [blocks, window] run past the ends of the row;
        query_at and key_at (flat) are the same, held inside it.
        """
        g, window = self.g, BLOCK + 2 * self.reach
        last = g.op("Sub", self.tokens, g.ints(1))
        blocks = g.op("Div", g.op("Add", self.tokens, g.ints(BLOCK - 1)), g.ints(BLOCK))
        first = g.op("Mul", g.op("Range", g.scalar(0), g.op("Squeeze", blocks), g.scalar(1)), g.ints(BLOCK))
        first = g.op("Unsqueeze", first, g.ints(1))  # [blocks, 1]
        offsets = np.arange(-self.reach, BLOCK + self.reach, dtype=np.int64)[None]
        query_position = g.op("Add", first, g.constant("query_offsets", np.arange(BLOCK, dtype=np.int64)[None]))
        self.key_position = g.op("Add", first, g.constant("key_offsets", offsets))
        self.query_inside = g.op("Min", query_position, last)
        self.key_inside = g.op("Min", g.op("Max", self.key_position, g.ints(0)), last)
        self.query_at = g.op("Reshape", self.query_inside, g.ints(-1))
        self.key_at = g.op("Reshape", self.key_inside, g.ints(-1))
        batch = g.op("Mul", self.rows, blocks)
        self.query_shape = g.op("Concat", batch, g.ints(BLOCK, self.width), axis=0)
        self.key_shape = g.op("Concat", batch, g.ints(window, self.width), axis=0)
        self.padded_row_shape = g.op("Concat", self.rows, g.ints(-1, self.width), axis=0)

    def _block_mask(self) -> Value:
        """``[rows * blocks, 1, BLOCK, window]``: same segment, within reach, and not past the row's ends."""
        g = self.g
        with g.scope("blocks"):
            query_segment = g.op("Unsqueeze", g.op("Gather", self.segment_ids, self.query_inside, axis=1), g.ints(3))
            key_segment = g.op("Unsqueeze", g.op("Gather", self.segment_ids, self.key_inside, axis=1), g.ints(2))
            same = g.op("Equal", query_segment, key_segment)  # [rows, blocks, BLOCK, window]
            near = self._within_reach(
                g.op("Unsqueeze", self.query_inside, g.ints(2)), g.op("Unsqueeze", self.key_position, g.ints(1))
            )
            inside = g.op("Unsqueeze", g.op("Equal", self.key_position, self.key_inside), g.ints(1))
            allowed = g.op("And", same, g.op("And", near, inside))
            return self.as_mask(g.op("Reshape", allowed, g.ints(-1, 1, BLOCK, BLOCK + 2 * self.reach)))

    def _same_segment_mask(self) -> Value:
        """``[rows, 1, tokens, tokens]``: same segment."""
        with self.g.scope("global"):
            return self.as_mask(self.same_segment())

    def same_segment(self) -> Value:
        """Bool ``[rows, 1, tokens, tokens]``."""
        g = self.g
        return g.op(
            "Equal",
            g.op("Unsqueeze", self.segment_ids, g.ints(1, 3)),
            g.op("Unsqueeze", self.segment_ids, g.ints(1, 2)),
        )

    def _within_reach(self, query_position: Value, key_position: Value) -> Value:
        """|i - j| <= reach."""
        g = self.g
        distance = g.op("Abs", g.op("Sub", query_position, key_position))
        return g.op("LessOrEqual", distance, g.ints(self.reach))

    def as_mask(self, allowed: Value) -> Value:
        """The mask in the form that ``attend`` takes: here the booleans themselves."""
        return allowed


class OrtCpuAttention(StandardAttention):
    """For ONNX Runtime on CPUs. What differs from the standard dialect, by what is in the batch:

    - Every row is one whole pair: global layers take the fused ``MultiHeadAttention``, which needs no mask and
      holds no tokens x tokens matrix (at 8,192 tokens that would be 3.2 GB).
    - Rows of at most SHORT tokens: sliding layers attend over the whole row under a band mask; blocks would
      compute more than they save.
    - Masks are added to the scores, which is faster here than booleans.
    """

    SHORT = 192  # tokens

    def _make_masks(self) -> None:
        g = self.g
        first, last = (g.op(kind, self.segment_ids, keepdims=0) for kind in ("ReduceMin", "ReduceMax"))
        one = g.scalar(1)
        self.one_pair_rows = g.op("And", g.op("Equal", first, one), g.op("Equal", last, one))
        self.short_rows = g.op("Squeeze", g.op("LessOrEqual", self.tokens, g.ints(self.SHORT)))
        nothing = g.constant("nothing", np.zeros((0,), np.float32))
        self.global_mask = g.branch(self.one_pair_rows, lambda: g.op("Identity", nothing), self._same_segment_mask)
        self.sliding_mask = g.branch(self.short_rows, self._band_mask, self._block_mask)

    def global_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Fused and without a mask where every row is one whole pair."""
        g = self.g

        def fused() -> Value:
            return g.op("MultiHeadAttention", q, k, v, domain=CONTRIB, num_heads=self.heads, scale=self.scale)

        return g.branch(self.one_pair_rows, fused, lambda: self.attend(q, k, v, self.global_mask))

    def sliding_attention(self, q: Value, k: Value, v: Value) -> Value:
        """Short rows at once under the band mask, others in blocks."""
        in_blocks = super().sliding_attention
        return self.g.branch(
            self.short_rows, lambda: self.attend(q, k, v, self.sliding_mask), lambda: in_blocks(q, k, v)
        )

    def _band_mask(self) -> Value:
        """``[rows, 1, tokens, tokens]``: same segment and within reach."""
        g = self.g
        with g.scope("band"):
            position = g.op("Range", g.scalar(0), g.op("Squeeze", self.tokens), g.scalar(1))
            near = self._within_reach(g.op("Unsqueeze", position, g.ints(1)), g.op("Unsqueeze", position, g.ints(0)))
            return self.as_mask(g.op("And", self.same_segment(), near))

    def as_mask(self, allowed: Value) -> Value:
        """0 where allowed, FORBIDDEN elsewhere."""
        g = self.g
        return g.op("Where", allowed, g.scalar(0.0), g.scalar(FORBIDDEN))


DIALECTS: dict[str, type[PackedAttention]] = {"standard": StandardAttention, "ort-cpu": OrtCpuAttention}

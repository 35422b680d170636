"""Attention over packed rows: the contract of a dialect, and its spelling in standard operators.

A token attends to the tokens of its own pair: those with the same segment id. Padding (segment 0) attends to
padding, so that no token is without a target and no softmax divides 0 by 0. Global layers see the whole pair, sliding
layers only ``reach`` tokens on each side.

Sliding attention is computed in blocks, so that its cost grows with the length, not with its square:

        row     | block 0 | block 1 | block 2 | block 3 |          each of BLOCK tokens
                     ┌─────────┬─────────┐
    queries          │         │ block 2 │
    keys       reach │◀ block 2 and its neighbours ▶│ reach         the window: reach + BLOCK + reach tokens

                keys ─▶  ......■■■■■■■......
    queries of a block   .......■■■■■■■.....        ■ within reach of the query: allowed, if of the same pair
                         ........■■■■■■■....        . in the window only for the block's other queries

A row of any length works: queries and keys past its end are copies of its last token, which are masked or cut off.
Dialects for GPUs, whose rows are whole blocks, copy less (``attention_gpu.WholeBlocks``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from .builder import GraphBuilder, Value
from .float_types import FloatType, onnx_type

BLOCK = 64  # queries in a block
FORBIDDEN = -1e4  # added to a forbidden score where a mask is added: finite, and 0 after softmax, in fp16 too


@dataclass(frozen=True)
class AttentionShape:
    """The sizes that attention depends on.

    heads:     number of heads.
    head_size: width of one head.
    reach:     number of tokens that a sliding layer sees on each side: ``|i - j| <= reach``.
    """

    heads: int
    head_size: int
    reach: int

    @property
    def width(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_size


class PackedAttention(ABC):
    """The contract of a dialect. The constructor computes the masks once for all layers.

    Args:
        g: the graph that the nodes go to.
        shape: heads, their size, and the reach of sliding layers.
        segment_ids: ``[rows, tokens]``.
        position_ids: ``[rows, tokens]``.
    """

    def __init__(self, g: GraphBuilder, shape: AttentionShape, segment_ids: Value, position_ids: Value) -> None:
        self.g = g
        self.heads = shape.heads
        self.head_size = shape.head_size
        self.scale = shape.head_size**-0.5
        self.width = shape.width
        self.reach = shape.reach
        self.segment_ids = segment_ids
        self.position_ids = position_ids

    # Whether ``rotate`` takes heads whose values that turn together are neighbours, and not in the two halves.
    takes_neighbours = False

    @staticmethod
    def rope_type(dtype: FloatType) -> FloatType:
        """The type of the tables that ``rotate`` takes for values of type ``dtype``."""
        return dtype

    @property
    def heads_turned_together(self) -> int:
        """For how many heads, side by side, the tables that ``rotate`` takes hold the angles."""
        return 1

    @abstractmethod
    def rotate(self, x: Value, cos: Value, sin: Value, dtype: FloatType) -> Value:
        """Rotary position embedding of ``x`` ``[rows, tokens, width]``.

        Args:
            x: what is turned.
            cos: ``[positions, heads_turned_together * head_size / 2]``, of type ``rope_type(dtype)``.
            sin: as ``cos``.
            dtype: of ``x``.
        """

    @abstractmethod
    def global_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Every token sees its whole pair. All are ``[rows, tokens, width]`` of type ``dtype``."""

    @abstractmethod
    def sliding_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Every token sees ``reach`` tokens of its pair on each side. All are as in ``global_attention``."""


class StandardAttention(PackedAttention):
    """Standard ONNX operators only, no control flow: loads wherever opset 23 does."""

    # Whether ``Attention`` has an attribute that makes its softmax float32.
    names_softmax_precision = True

    def __init__(self, g: GraphBuilder, shape: AttentionShape, segment_ids: Value, position_ids: Value) -> None:
        super().__init__(g, shape, segment_ids, position_ids)
        with g.scope("masks"):
            self.rows = g.op("Shape", segment_ids, start=0, end=1)
            self.tokens = g.op("Shape", segment_ids, start=1, end=2)
            self._index_blocks()
            self._make_masks()

    def rotate(self, x: Value, cos: Value, sin: Value, dtype: FloatType) -> Value:
        """Rotate with the operator ``RotaryEmbedding``."""
        return self.g.op("RotaryEmbedding", x, cos, sin, self.position_ids, num_heads=self.heads)

    def global_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Attend over whole rows under the mask of segments."""
        return self.attend(q, k, v, self.global_mask, dtype)

    def sliding_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Cut the row into blocks, attend in each, put the row together again."""
        g = self.g
        q = g.op("Reshape", g.op("Gather", q, self.query_at, axis=1), self.query_shape)
        k = g.op("Reshape", g.op("Gather", k, self.key_at, axis=1), self.key_shape)
        v = g.op("Reshape", g.op("Gather", v, self.key_at, axis=1), self.key_shape)
        mixed = g.op("Reshape", self.attend(q, k, v, self.sliding_mask, dtype), self.padded_row_shape)
        return g.op("Slice", mixed, g.ints(0), self.tokens, g.ints(1))

    def attend(self, q: Value, k: Value, v: Value, mask: Value, dtype: FloatType) -> Value:
        """Softmax attention under a mask ``[batch, 1, queries, keys]``; the softmax is float32 in every type."""
        settings: dict[str, Any] = {"q_num_heads": self.heads, "kv_num_heads": self.heads, "scale": self.scale}
        if self.names_softmax_precision and dtype is not np.float32:
            settings["softmax_precision"] = onnx_type(np.float32)
        return self.g.op("Attention", q, k, v, mask, **settings)

    def _make_masks(self) -> None:
        self.global_mask = self._same_segment_mask()
        self.sliding_mask = self._block_mask()

    def _index_blocks(self) -> None:
        """Where the queries and keys of each block are in a row, and the shapes that cut it.

        query_position [blocks, BLOCK] and key_position [blocks, window] run past the ends of the row;
        query_at and key_at (flat) are the same, clamped to the row.
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
        """The mask in the form for ``attend``: here the booleans themselves."""
        return allowed

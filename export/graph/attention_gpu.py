"""Attention for GPUs: for TensorRT's parser, for older parsers, and for ONNX Runtime's CUDA kernels.

None of them branches, because at a branch the GPU must wait for the processor, and a CUDA graph cannot capture it. For
the same reason no value that the processor computes from a shape is read by a GPU kernel: shapes only set sizes.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .attention import BLOCK, FORBIDDEN, AttentionShape, StandardAttention
from .builder import CONTRIB, GraphBuilder, Value
from .float_types import FloatType

THREADS = 256  # of a group on the GPU


class WholeBlocks(StandardAttention):
    """Sliding attention over rows of whole blocks: the number of tokens is a multiple of BLOCK.

    The queries' blocks and the row are then the same memory, so only keys and values are copied: each block sees itself
    and ``neighbours`` blocks on each side, which are gathered as wholes.

        row       | block 0 | block 1 | block 2 | block 3 |
        block 2 sees        | block 1 | block 2 | block 3 |      neighbours = 1, for a reach of up to BLOCK
        block 3 sees                  | block 2 | block 3 | block 3 again, masked
    """

    def sliding_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Cut the row into blocks, attend in each, put the row together again."""
        g = self.g
        q = g.op("Reshape", q, g.ints(-1, BLOCK, self.width))
        k, v = (
            g.op("Reshape", self._seen(x, g.ints(0, -1, BLOCK * self.width)), g.ints(-1, self.window, self.width))
            for x in (k, v)
        )
        return g.op("Reshape", self.attend(q, k, v, self.sliding_mask, dtype), self.row_shape)

    def _index_blocks(self) -> None:
        """Which blocks each block sees: ``seen`` ``[blocks, 2 * neighbours + 1]``, clamped to the row.

        ``is_inside`` says which of them are blocks of the row, and not copies of its first or last one.
        """
        g = self.g
        self.neighbours = -(-self.reach // BLOCK)
        self.window = (2 * self.neighbours + 1) * BLOCK  # keys that a block sees
        blocks = g.op("Squeeze", g.op("Div", self.tokens, g.ints(BLOCK)))
        block = g.op("Range", g.scalar(0), blocks, g.scalar(1))
        last = g.op("Gather", block, g.ints(-1))  # on the GPU, unlike blocks - 1
        steps = np.arange(-self.neighbours, self.neighbours + 1, dtype=np.int64)[None]
        at = g.op("Add", g.op("Unsqueeze", block, g.ints(1)), g.constant("steps", steps))
        self.seen = g.op("Min", g.op("Max", at, g.ints(0)), last)
        self.is_inside = g.op("Equal", at, self.seen)
        self.row_shape = g.op("Concat", self.rows, g.ints(-1, self.width), axis=0)

    def _seen(self, x: Value, blocks_shape: Value) -> Value:
        """What each block sees of ``x`` ``[rows, tokens, ..]``: ``[rows, blocks, 2 * neighbours + 1, BLOCK * ..]``."""
        return self.g.op("Gather", self.g.op("Reshape", x, blocks_shape), self.seen, axis=1)

    def _block_mask(self) -> Value:
        """``[rows * blocks, 1, BLOCK, window]``: same segment, within reach, and not past the row's ends."""
        g = self.g
        with g.scope("blocks"):
            queries = g.op("Reshape", self.segment_ids, g.ints(0, -1, BLOCK, 1, 1))
            keys = g.op("Unsqueeze", self._seen(self.segment_ids, g.ints(0, -1, BLOCK)), g.ints(2))
            same = g.op("Equal", queries, keys)  # [rows, blocks, BLOCK, 2 * neighbours + 1, BLOCK]
            key = np.arange(self.window).reshape(-1, BLOCK) - self.neighbours * BLOCK
            distance = np.abs(np.arange(BLOCK)[:, None, None] - key)
            near = g.constant("near", distance <= self.reach)
            inside = g.op("Unsqueeze", self.is_inside, g.ints(1, 3))
            allowed = g.op("And", same, g.op("And", inside, near))
            return self.as_mask(g.op("Reshape", allowed, g.ints(-1, 1, BLOCK, self.window)))


class TensorRtAttention(WholeBlocks):
    """For TensorRT from 10.15 and TensorRT-RTX: ``Attention`` and ``RotaryEmbedding`` with int32 ids."""

    # Its parser refuses the attribute; its fused kernels add in float32.
    names_softmax_precision = False

    def __init__(self, g: GraphBuilder, shape: AttentionShape, segment_ids: Value, position_ids: Value) -> None:
        # RotaryEmbedding accepts int64 positions only.
        position_ids = g.op("Cast", position_ids, to=TensorProto.INT64)
        super().__init__(g, shape, segment_ids, position_ids)


class DecomposedAttention(WholeBlocks):
    """For parsers without these two operators: attention as MatMul, Softmax and MatMul, the rotation as products."""

    def __init__(self, g: GraphBuilder, shape: AttentionShape, segment_ids: Value, position_ids: Value) -> None:
        super().__init__(g, shape, segment_ids, position_ids)
        self._angles: dict[Value, Value] = {}
        self._heads_shape = g.ints(0, 0, self.heads, shape.head_size)

    @staticmethod
    def rope_type(dtype: FloatType) -> FloatType:
        """float32, because the rotation consists of several nodes, and in float16 each of them would round."""
        return np.float32

    def rotate(self, x: Value, cos: Value, sin: Value, dtype: FloatType) -> Value:
        """``[a, b]`` becomes ``[a cos - b sin, b cos + a sin]``, where a and b are the halves of a head."""
        g, half = self.g, self.width // self.heads // 2
        cos, sin = self._at_positions(cos), self._at_positions(sin)
        heads = g.op("Reshape", g.convert(x, dtype, np.float32), self._heads_shape)
        a = g.op("Slice", heads, g.ints(0), g.ints(half), g.ints(3))
        b = g.op("Slice", heads, g.ints(half), g.ints(2 * half), g.ints(3))
        first = g.op("Sub", g.op("Mul", a, cos), g.op("Mul", b, sin))
        second = g.op("Add", g.op("Mul", b, cos), g.op("Mul", a, sin))
        rotated = g.op("Reshape", g.op("Concat", first, second, axis=3), g.ints(0, 0, self.width))
        return g.convert(rotated, np.float32, dtype)

    def attend(self, q: Value, k: Value, v: Value, mask: Value, dtype: FloatType) -> Value:
        """Scale the queries before the product, which then stays small in float16."""
        g = self.g
        scale = g.constant("scale", np.array(self.scale, dtype))
        q, k, v = (
            g.op("Transpose", g.op("Reshape", x, self._heads_shape), perm=perm)
            for x, perm in ((g.op("Mul", q, scale), [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))
        )
        scores = g.convert(g.op("MatMul", q, k), dtype, np.float32)
        shares = g.op("Softmax", g.op("Where", mask, scores, g.scalar(FORBIDDEN)), axis=-1)
        mixed = g.op("MatMul", g.convert(shares, np.float32, dtype), v)
        return g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), g.ints(0, 0, self.width))

    def _at_positions(self, table: Value) -> Value:
        """The rows of a table at the tokens' positions, ``[rows, tokens, 1, head_size / 2]``."""
        if table not in self._angles:
            with self.g.top(), self.g.scope("angles"):
                rows = self.g.op("Gather", table, self.position_ids, axis=0)
                self._angles[table] = self.g.op("Unsqueeze", rows, self.g.ints(2))
        return self._angles[table]


class OrtCudaAttention(WholeBlocks):
    """For ONNX Runtime on CUDA: its fused ``MultiHeadAttention`` under masks that are added.

    Its rotation starts a group of threads for each head, which is too small a group for the GPU. Several heads are
    therefore declared as one: where the values that turn together are neighbours, a head is as good as a part of one.
    """

    takes_neighbours = True

    @property
    def heads_turned_together(self) -> int:
        """As many as fill a group of THREADS, which takes a value in each thread."""
        fitting = [n for n in range(1, self.heads + 1) if self.heads % n == 0 and n * self.head_size <= THREADS]
        return max(fitting, default=1)

    def rotate(self, x: Value, cos: Value, sin: Value, dtype: FloatType) -> Value:
        """Rotate several heads as one."""
        groups = self.heads // self.heads_turned_together
        return self.g.op("RotaryEmbedding", x, cos, sin, self.position_ids, num_heads=groups, interleaved=1)

    def attend(self, q: Value, k: Value, v: Value, mask: Value, dtype: FloatType) -> Value:
        """Attend under an added mask; the biases of Q, K and V and the mask of keys are left out."""
        return self.g.op(
            "MultiHeadAttention",
            *(q, k, v, None, None, self._added(mask, dtype)),
            domain=CONTRIB,
            num_heads=self.heads,
            scale=self.scale,
        )

    def _make_masks(self) -> None:
        super()._make_masks()
        self._as_added: dict[tuple[Value, FloatType], Value] = {}

    def _added(self, mask: Value, dtype: FloatType) -> Value:
        """0 where allowed, FORBIDDEN elsewhere; once for all layers of a type."""
        g = self.g
        if (mask, dtype) not in self._as_added:
            with g.top(), g.scope("masks"):
                zero, forbidden = (
                    g.constant(n, np.array(x, dtype)) for n, x in (("zero", 0), ("forbidden", FORBIDDEN))
                )
                self._as_added[mask, dtype] = g.op("Where", mask, zero, forbidden)
        return self._as_added[mask, dtype]


class OrtCudaBandAttention(OrtCudaAttention):
    """As ``OrtCudaAttention``, with sliding layers that attend over whole rows, under a mask of the band.

    It computes more than blocks do, by a factor of tokens / window, but copies no keys and values.
    """

    def sliding_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Attend over whole rows under the mask of the band."""
        return self.attend(q, k, v, self.sliding_mask, dtype)

    def _index_blocks(self) -> None:
        """There are no blocks."""

    def _block_mask(self) -> Value:
        """``[rows, 1, tokens, tokens]``: same segment and within reach."""
        g = self.g
        with g.scope("band"):
            position = g.op("Range", g.scalar(0), g.op("Squeeze", self.tokens), g.scalar(1))
            near = self._within_reach(g.op("Unsqueeze", position, g.ints(1)), g.op("Unsqueeze", position, g.ints(0)))
            return self.as_mask(g.op("And", self.same_segment(), near))

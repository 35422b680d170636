"""Attention as ONNX Runtime's CPU kernels run it fastest."""

from __future__ import annotations

import numpy as np

from .attention import FORBIDDEN, StandardAttention
from .builder import CONTRIB, Value
from .float_types import FloatType


class OrtCpuAttention(StandardAttention):
    """For ONNX Runtime on CPUs. It differs from the standard dialect by the content of the batch:

    - If every row is one whole pair, global layers use the fused ``MultiHeadAttention``, which requires no mask and
      allocates no tokens x tokens matrix (3.2 GB at 8,192 tokens).
    - If rows have at most SHORT tokens, sliding layers attend over the whole row under a band mask, because blocks
      would compute more than they save.
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

    def global_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Fused and without a mask if every row is one whole pair."""
        g = self.g

        def fused() -> Value:
            return g.op("MultiHeadAttention", q, k, v, domain=CONTRIB, num_heads=self.heads, scale=self.scale)

        return g.branch(self.one_pair_rows, fused, lambda: self.attend(q, k, v, self.global_mask, dtype))

    def sliding_attention(self, q: Value, k: Value, v: Value, dtype: FloatType) -> Value:
        """Short rows whole under the band mask, others in blocks."""
        in_blocks = super().sliding_attention
        return self.g.branch(
            self.short_rows, lambda: self.attend(q, k, v, self.sliding_mask, dtype), lambda: in_blocks(q, k, v, dtype)
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

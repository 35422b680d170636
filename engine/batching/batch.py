"""The arrays of one batch, and the way from pairs to arrays and back.

pairs of 9, 4, 3 and 2 tokens, one batch of two rows of 9:

    input_ids      a a a a a a a a a      position_ids   0 1 2 3 4 5 6 7 8      segment_ids   1 1 1 1 1 1 1 1 1
                   b b b b c c c d d                     0 1 2 3 0 1 2 0 1                    1 1 1 1 2 2 2 3 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray, IntArray

# The inputs of a packed graph with the shape ``[rows, tokens]``; `Batch` uses the same names.
INPUTS_PER_TOKEN = ("input_ids", "position_ids", "segment_ids")


@dataclass(frozen=True)
class PlannedBatch:
    """One batch of a plan: ``rows[r]`` lists the pairs of row r in order, ``width`` counts the tokens in each row."""

    rows: tuple[tuple[int, ...], ...]
    width: int

    @property
    def slots(self) -> int:
        """The maximum number of pairs in a row: the second dimension of the logits."""
        return max(len(row) for row in self.rows)

    @property
    def tokens(self) -> int:
        """The number of tokens that the model computes, padding included."""
        return len(self.rows) * self.width


@dataclass(frozen=True)
class Batch:
    """What a backend runs: three int64 arrays ``[rows, tokens]`` and the number of slots.

    position_ids: position within the pair, from 0; 0 for padding.
    segment_ids:  1, 2, .. for the pairs of a row, 0 for padding.
    """

    input_ids: IntArray
    position_ids: IntArray
    segment_ids: IntArray
    slots: int

    def padded(self, rows: int, tokens: int, slots: int) -> Batch:
        """The same pairs in a larger shape: ``[rows, tokens]`` and ``slots``, none of them lower than the batch's own.

        Added tokens have id 0, whatever the tokenizer pads with: segment 0 hides them.
        """
        own_rows, own_tokens = self.input_ids.shape
        added = ((0, rows - own_rows), (0, tokens - own_tokens))
        return Batch(**{name: np.pad(getattr(self, name), added) for name in INPUTS_PER_TOKEN}, slots=slots)


def assemble(planned: PlannedBatch, token_ids: Sequence[IntArray], pad_token_id: int) -> Batch:
    """The arrays of a planned batch. ``token_ids[pair]`` are the ids of that pair, int64 ``[tokens]``."""
    shape = (len(planned.rows), planned.width)
    input_ids = np.full(shape, pad_token_id, np.int64)
    position_ids = np.zeros(shape, np.int64)
    segment_ids = np.zeros(shape, np.int64)
    for r, row in enumerate(planned.rows):
        start = 0
        for segment, pair in enumerate(row, start=1):
            ids = token_ids[pair]
            end = start + len(ids)
            input_ids[r, start:end] = ids
            position_ids[r, start:end] = np.arange(len(ids))
            segment_ids[r, start:end] = segment
            start = end
    return Batch(input_ids, position_ids, segment_ids, planned.slots)


def unpack(planned: PlannedBatch, logits: FloatArray, out: FloatArray) -> None:
    """Copy the ``logits`` ``[rows, slots, labels]`` of a batch to their pairs in ``out`` ``[pairs, labels]``."""
    for r, row in enumerate(planned.rows):
        out[list(row)] = logits[r, : len(row)]

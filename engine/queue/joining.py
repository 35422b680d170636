"""Small batches of several calls in one run.

A GPU takes as long for one short row as for dozens, so the rows of waiting calls share a run there, and short rows are
put behind each other. On a processor only batches of equal width are joined: nothing is padded, and a score does not
depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence

from modernrank.batching.batch import PlannedBatch
from modernrank.batching.policy import PackingPolicy


class JointBatch:
    """A batch that grows by those of other calls. Its pairs are numbered in the order in which they came.

    Args:
        packing: what the backend accepts and prefers.
        first: the batch to begin with.
        lengths: number of tokens of pairs in each of its rows.

    >>> from modernrank.batching.policy import TokenBudget
    >>> policy = PackingPolicy(TokenBudget(32), pairs_per_row=1, minimum_fill=1)
    >>> joint = JointBatch(policy, PlannedBatch(((4,), (2,)), 8), [8, 8])
    >>> joint.add(PlannedBatch(((0,),), 8), [8]), joint.add(PlannedBatch(((0,),), 6), [6])
    (True, False)
    >>> joint.planned
    PlannedBatch(rows=((0,), (1,), (2,)), width=8)
    """

    def __init__(self, packing: PackingPolicy, first: PlannedBatch, lengths: Sequence[int]) -> None:
        self._packing = packing
        self._width = first.width
        self._rows: list[list[int]] = []
        self._filled: list[int] = []
        self._pairs = 0
        self._place(first, lengths, self._rows, self._filled)

    @property
    def is_full(self) -> bool:
        """Whether the backend accepts no further row of this width."""
        return len(self._rows) >= self._max_rows(self._width)

    @property
    def planned(self) -> PlannedBatch:
        """What all of them make together."""
        return PlannedBatch(tuple(map(tuple, self._rows)), self._width)

    def add(self, batch: PlannedBatch, lengths: Sequence[int]) -> bool:
        """Take another batch in, if the backend accepts the joint one and runs it faster than both by themselves."""
        width = max(self._width, batch.width)
        rows, filled = [*map(list, self._rows)], list(self._filled)
        before = self._width, self._pairs
        self._width = width
        self._place(batch, lengths, rows, filled)
        apart = self._cost(len(self._rows), before[0]) + self._cost(len(batch.rows), batch.width)
        if (
            len(rows) > self._max_rows(width)
            or min(filled) < self._packing.minimum_fill * width
            or self._cost(len(rows), width) > apart
        ):
            self._width, self._pairs = before
            return False
        self._rows, self._filled = rows, filled
        return True

    def _place(self, batch: PlannedBatch, lengths: Sequence[int], rows: list[list[int]], filled: list[int]) -> None:
        """Number the pairs of a batch, and put its rows behind others where they fit."""
        for row, tokens in zip(batch.rows, lengths, strict=True):
            numbers = range(self._pairs, self._pairs + len(row))
            self._pairs += len(row)
            at = next(
                (at for at in range(len(rows)) if self._fits(len(rows[at]) + len(row), filled[at] + tokens)), None
            )
            if at is None:
                rows.append([*numbers])
                filled.append(tokens)
            else:
                rows[at] += numbers
                filled[at] += tokens

    def _fits(self, pairs: int, tokens: int) -> bool:
        most = self._packing.pairs_per_row
        return tokens <= self._width and (most is None or pairs <= most)

    def _max_rows(self, width: int) -> int:
        return self._packing.shape(width, width)[1]

    def _cost(self, rows: int, width: int) -> int:
        return max(rows * width, self._packing.launch_tokens)

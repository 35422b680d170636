"""The batches of a call that have not been taken yet."""

from __future__ import annotations

from collections import defaultdict, deque

from modernrank.batching.batch import PlannedBatch
from modernrank.batching.packing import Plan

from .cost import Load


class WaitingBatches:
    """The batches of a plan, which are taken in the order of its schedule, or by their width.

    >>> from modernrank.batching.packing import plan
    >>> from modernrank.batching.policy import BatchPolicy, PackingPolicy, TokenBudget
    >>> batches = WaitingBatches(plan([9, 7, 5], BatchPolicy(PackingPolicy(TokenBudget(1), pairs_per_row=1))))
    >>> batches.take(width=7).rows, batches.take().rows, batches.take().rows, batches.peek()
    (((1,),), ((0,),), ((2,),), None)
    """

    def __init__(self, plan: Plan) -> None:
        self.load = Load.of(*plan.batches)
        self._batches = plan.batches
        self._alone = deque(plan.schedule.alone)
        self._side_by_side = deque(plan.schedule.side_by_side)
        self._taken: set[int] = set()  # before their turn
        self._of_width: dict[int, deque[int]] | None = None

    def __bool__(self) -> bool:
        return self.load.runs > 0

    @property
    def run_alone(self) -> bool:
        """Whether the next one is to run alone, if the call is the only one."""
        return self._first(self._alone) is not None

    def peek(self, width: int | None = None) -> PlannedBatch | None:
        """The batch that ``take`` would take; None if there is none."""
        index = self._find(width)
        return None if index is None else self._batches[index]

    def take(self, width: int | None = None) -> PlannedBatch:
        """Remove the next batch, those that are to run alone first, or one of this ``width``.

        Raises:
            LookupError: there is none.
        """
        index = self._find(width)
        if index is None:
            raise LookupError("no such batch waits")
        batch = self._batches[index]
        self._taken.add(index)
        self.load.add(batch, sign=-1)
        return batch

    def clear(self) -> None:
        """Forget them all."""
        self._alone.clear()
        self._side_by_side.clear()
        self._of_width = {}
        self.load = Load()

    def _find(self, width: int | None) -> int | None:
        if width is None:
            index = self._first(self._alone)
            return self._first(self._side_by_side) if index is None else index
        if self._of_width is None:
            self._of_width = defaultdict(deque)
            for index in (*self._alone, *self._side_by_side):
                self._of_width[self._batches[index].width].append(index)
        return self._first(self._of_width[width]) if width in self._of_width else None

    def _first(self, indices: deque[int]) -> int | None:
        while indices and indices[0] in self._taken:
            indices.popleft()
        return indices[0] if indices else None

"""Plan how pairs share the rows of batches: pure functions that need no model.

A *row* holds one or more whole pairs end to end; a *batch* is one call of the backend, with rows of one width. The
backend's ``BatchPolicy`` says which rows it prefers. On CPUs that is one pair a row, and rows of equal length only:
small batches cost nothing there, nothing is padded, and a pair is computed by the same operations whatever shares its
batch, so its score is the same to the last bit. Where a batch should be large and of a fixed shape, as on GPUs, a row
takes several pairs, which the graph keeps apart by ``segment_ids`` (``batch.py`` has a drawing).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from modernrank.errors import InputError, counted
from modernrank.host import sharing_interpreter

from .batch import PlannedBatch
from .policy import BatchPolicy
from .schedule import Schedule, schedule


@dataclass(frozen=True)
class Plan:
    """All batches for a list of pairs; together they hold every pair exactly once. ``print`` explains it."""

    batches: tuple[PlannedBatch, ...]
    schedule: Schedule
    pair_tokens: int

    @property
    def computed_tokens(self) -> int:
        """The number of tokens that the model computes: those of the pairs and the padding."""
        return sum(batch.tokens for batch in self.batches)

    @property
    def waste(self) -> float:
        """The share of the computed tokens that is padding: 0 for none, never above ``1 - minimum_fill``."""
        return 1 - self.pair_tokens / self.computed_tokens if self.batches else 0.0

    def __str__(self) -> str:
        """One line for each kind of batch, the widest first.

        >>> from modernrank.batching.policy import PackingPolicy, SchedulePolicy, TokenBudget
        >>> policy = BatchPolicy(PackingPolicy(TokenBudget(18), 1, minimum_fill=1), SchedulePolicy(workers=2))
        >>> print(plan([9, 9, 4], policy))
        3 pairs of 22 tokens in 2 batches, 0.0 % padding
              rows x width  pairs  threads
         1 of    2 x     9      2      all
         1 of    1 x     4      1      all
        """
        pairs = sum(len(row) for batch in self.batches for row in batch.rows)
        padding = f"{100 * self.waste:.1f} % padding"
        batches = counted(len(self.batches), "batch", "batches")
        lines = [f"{counted(pairs, 'pair')} of {counted(self.pair_tokens, 'token')} in {batches}, {padding}"]
        alone = set(self.schedule.alone)
        kinds = Counter(
            (batch.width, len(batch.rows), sum(map(len, batch.rows)), index in alone)
            for index, batch in enumerate(self.batches)
        )
        if kinds:
            lines.append(f"{'rows x width':>18}  pairs  threads")
        for (width, rows, held, has_all), count in sorted(kinds.items(), reverse=True):
            threads = "all" if has_all else "a share"
            lines.append(f"{count:>2} of {rows:>4} x {width:>5}  {held:>5}  {threads:>7}")
        return "\n".join(lines)


def plan(lengths: Sequence[int], policy: BatchPolicy) -> Plan:
    """Place pairs of the given ``lengths`` (tokens, each at least 1) in rows and batches.

    The longest pairs come first: a batch is as wide as the longest pair that is left, and each of its rows is filled
    with the longest pairs that still fit (first-fit decreasing). So pairs of similar length get rows of their own,
    without padding, and short ones fill the gaps of long ones.

    >>> from modernrank.batching.policy import PackingPolicy, TokenBudget
    >>> plan([9, 2, 4, 3], BatchPolicy(PackingPolicy(TokenBudget(18)))).batches
    (PlannedBatch(rows=((0,), (2, 3, 1)), width=9),)
    """
    if any(length < 1 for length in lengths):
        raise InputError(f"a pair has at least one token, but the shortest of these has {min(lengths)}")
    packing = policy.packing
    waiting = _Waiting(lengths)
    batches = []
    for _ in sharing_interpreter(itertools.takewhile(lambda _: bool(waiting), itertools.count())):
        width, max_rows = packing.shape(waiting.longest(), waiting.tokens)
        rows: list[tuple[int, ...]] = []
        for _ in range(max_rows):
            row, filled = waiting.fit(width, packing.pairs_per_row)
            if not row or filled < packing.minimum_fill * width:
                break
            waiting.remove(row)
            rows.append(row)
        batches.append(PlannedBatch(tuple(rows), width))
    return Plan(tuple(batches), schedule([batch.tokens for batch in batches], policy.schedule), sum(lengths))


class _Waiting:
    """Pairs not yet placed, by length: the longest that fits a gap is found by bisection."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.tokens = sum(lengths)
        self._length_of = lengths
        self._pairs: dict[int, deque[int]] = defaultdict(deque)
        for pair, length in enumerate(lengths):
            self._pairs[length].append(pair)
        self._lengths = sorted(self._pairs)

    def __bool__(self) -> bool:
        return bool(self._lengths)

    def longest(self) -> int:
        return self._lengths[-1]

    def fit(self, width: int, max_pairs: int | None) -> tuple[tuple[int, ...], int]:
        """The pairs that would fill a row of ``width``, and their tokens; nothing is removed yet."""
        row: list[int] = []
        space = width
        taken: dict[int, int] = defaultdict(int)  # pairs of each length that are in `row` already
        at = bisect_right(self._lengths, space) - 1
        while at >= 0 and (max_pairs is None or len(row) < max_pairs):
            length = self._lengths[at]
            if length > space or taken[length] == len(self._pairs[length]):
                at = min(at, bisect_right(self._lengths, space)) - 1
                continue
            row.append(self._pairs[length][taken[length]])
            taken[length] += 1
            space -= length
        return tuple(row), width - space

    def remove(self, row: tuple[int, ...]) -> None:
        for pair in row:
            length = self._length_of[pair]
            self.tokens -= length
            self._pairs[length].popleft()
            if not self._pairs[length]:
                del self._pairs[length]
                self._lengths.remove(length)

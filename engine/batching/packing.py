"""Plan how pairs share the rows of a batch: pure functions, no model needed.

A *row* holds one or more whole pairs end to end; a *run* is one call of the session, a batch of rows of
one width. The session's ``PackingLimits`` say which rows it wants. On CPUs that is one pair a row, and rows of equal
length only: small runs cost nothing there, nothing is padded, and a pair is computed by the same operations
whatever shares its batch, so that its score is the same to the last bit. Where a run should be large and of a fixed
shape, as on GPUs, a row takes several pairs, which the graph keeps apart by ``segment_ids``:

    pairs of 9, 4, 3 and 2 tokens, one run of two rows of 9:

        input_ids      a a a a a a a a a      position_ids   0 1 2 3 4 5 6 7 8      segment_ids   1 1 1 1 1 1 1 1 1
                       b b b b c c c d d                     0 1 2 3 0 1 2 0 1                    1 1 1 1 2 2 2 3 3
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modernrank.errors import InputError

from .schedule import SERIAL_SHARE, Schedule, schedule

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

# The inputs of a packed graph that are ``[rows, tokens]``, as `Batch` calls them too.
INPUTS_PER_TOKEN = ("input_ids", "position_ids", "segment_ids")


@dataclass(frozen=True)
class PackingLimits:
    """What a session wants of its batches.

    tokens_per_run: tokens (padding included) that a run aims at. A single longer pair is a run of its own.
    pairs_per_row:  most pairs in a row; None for no limit.
    minimum_fill:   least share of a row that must be tokens of pairs, 0 to 1. It bounds the waste:
                    a row that would be emptier starts a new, narrower run instead. 1 allows no padding.
    streams:        runs that the session takes side by side, each on its share of the threads.
    tokens_per_stream: a run of more tokens has all threads.
    serial_share:   of a run's time that all threads do not shorten, 0 to 1.
    pairs_tokenised_ahead: of a long list, so many pairs are tokenised while as many before them run; None for none.
    """

    tokens_per_run: int = 512
    pairs_per_row: int | None = None
    minimum_fill: float = 0.75
    streams: int = 1
    tokens_per_stream: int = 1024
    serial_share: float = SERIAL_SHARE
    pairs_tokenised_ahead: int | None = None

    def shape(self, longest: int, waiting: int) -> tuple[int, int]:
        """Width and most rows of the next run.

        Args:
            longest: tokens of the longest pair that waits.
            waiting: tokens of all pairs that wait.
        """
        return longest, max(1, self.tokens_per_run // longest)


@dataclass(frozen=True)
class Run:
    """One batch: ``rows[r]`` lists the pairs of row r in order, ``width`` is the tokens in each row."""

    rows: tuple[tuple[int, ...], ...]
    width: int

    @property
    def slots(self) -> int:
        """Most pairs in one row: the second dimension of the logits."""
        return max(len(row) for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens that the model computes, padding included."""
        return len(self.rows) * self.width


@dataclass(frozen=True)
class Plan:
    """All runs for a list of pairs; together they hold every pair exactly once. ``print`` explains it."""

    runs: tuple[Run, ...]
    schedule: Schedule
    pair_tokens: int

    @property
    def computed_tokens(self) -> int:
        """Tokens that the model computes: those of the pairs and the padding."""
        return sum(run.tokens for run in self.runs)

    @property
    def waste(self) -> float:
        """Share of the computed tokens that is padding: 0 for none, never above ``1 - minimum_fill``."""
        return 1 - self.pair_tokens / self.computed_tokens if self.runs else 0.0

    def __str__(self) -> str:
        """What is run, widest first, and why.

        >>> print(plan([9, 9, 4], PackingLimits(tokens_per_run=18, pairs_per_row=1, minimum_fill=1, streams=2)))
        3 pairs of 22 tokens in 2 runs, 0.0 % padding
              rows x width  pairs  threads
         1 of    2 x     9      2      all
         1 of    1 x     4      1      all
        """
        pairs = sum(len(row) for run in self.runs for row in run.rows)
        lines = [f"{pairs} pairs of {self.pair_tokens:,} tokens in {len(self.runs)} runs, {self.waste:.1%} padding"]
        lines[0] = lines[0].replace("%", " %")
        alone = set(self.schedule.alone)
        kinds = Counter(
            (run.width, len(run.rows), sum(map(len, run.rows)), index in alone) for index, run in enumerate(self.runs)
        )
        if kinds:
            lines.append(f"{'rows x width':>18}  pairs  threads")
        for (width, rows, held, has_all), count in sorted(kinds.items(), reverse=True):
            threads = "all" if has_all else "a share"
            lines.append(f"{count:>2} of {rows:>4} x {width:>5}  {held:>5}  {threads:>7}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Batch:
    """What a session runs: three int64 arrays ``[rows, tokens]`` and the number of slots.

    segment_ids: 1, 2, .. for the pairs of a row in order, 0 for padding.
    position_ids: position within the pair, from 0; 0 for padding.
    """

    input_ids: IntArray
    position_ids: IntArray
    segment_ids: IntArray
    slots: int


def plan(lengths: Sequence[int], limits: PackingLimits) -> Plan:
    """Place pairs of the given ``lengths`` (tokens, each at least 1) in rows and runs.

    Longest first: a run is as wide as the longest pair that is left, and each of its rows is filled with the
    longest pairs that still fit (first-fit decreasing). Pairs of like length so get rows of their own, without
    padding, and short ones fill what long ones leave.

    >>> plan([9, 2, 4, 3], PackingLimits(tokens_per_run=18)).runs
    (Run(rows=((0,), (2, 3, 1)), width=9),)
    """
    if any(length < 1 for length in lengths):
        raise InputError(f"a pair has at least one token, but the shortest of these has {min(lengths)}")
    waiting = _Waiting(lengths)
    runs = []
    while waiting:
        width, most = limits.shape(waiting.longest(), waiting.tokens)
        rows: list[tuple[int, ...]] = []
        for _ in range(most):
            row, filled = waiting.fit(width, limits.pairs_per_row)
            if not row or filled < limits.minimum_fill * width:
                break
            waiting.remove(row)
            rows.append(row)
        runs.append(Run(tuple(rows), width))
    scheduled = schedule([run.tokens for run in runs], limits.streams, limits.tokens_per_stream, limits.serial_share)
    return Plan(tuple(runs), scheduled, sum(lengths))


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

    def fit(self, width: int, most: int | None) -> tuple[tuple[int, ...], int]:
        """The pairs that would fill a row of ``width``, and their tokens; nothing is removed yet."""
        row: list[int] = []
        space = width
        taken: dict[int, int] = defaultdict(int)  # pairs of each length that are in `row` already
        at = bisect_right(self._lengths, space) - 1
        while at >= 0 and (most is None or len(row) < most):
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


def assemble(run: Run, token_ids: Sequence[IntArray], pad_token_id: int) -> Batch:
    """The arrays of a run. ``token_ids[pair]`` are the ids of that pair, int64 ``[tokens]``."""
    shape = (len(run.rows), run.width)
    input_ids = np.full(shape, pad_token_id, np.int64)
    position_ids = np.zeros(shape, np.int64)
    segment_ids = np.zeros(shape, np.int64)
    for r, row in enumerate(run.rows):
        start = 0
        for segment, pair in enumerate(row, start=1):
            ids = token_ids[pair]
            end = start + len(ids)
            input_ids[r, start:end] = ids
            position_ids[r, start:end] = np.arange(len(ids))
            segment_ids[r, start:end] = segment
            start = end
    return Batch(input_ids, position_ids, segment_ids, run.slots)


def unpack(run: Run, logits: FloatArray, out: FloatArray) -> None:
    """Copy ``logits`` ``[rows, slots, labels]`` of a run to their pairs in ``out`` ``[pairs, labels]``."""
    for r, row in enumerate(run.rows):
        out[list(row)] = logits[r, : len(row)]

"""Which batches a backend prefers: how rows are filled, what runs side by side, how far to tokenise ahead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

# How the time of one batch shrinks with the threads that share it, by Amdahl's law: measured at 1.6 to 1.7 times for
# two threads on batches of 50 to 500 tokens, which is a serial share of about a fifth.
SERIAL_SHARE = 0.2


class BatchShape(Protocol):
    """Decides the shape of the next batch."""

    def __call__(self, longest: int, waiting: int) -> tuple[int, int]:
        """Width and maximum number of rows of the next batch.

        Args:
            longest: tokens of the longest pair that waits.
            waiting: tokens of all pairs that wait.
        """
        ...


@dataclass(frozen=True)
class TokenBudget:
    """A batch is as wide as its longest pair, and holds about ``tokens`` tokens, padding included.

    A single pair that exceeds ``tokens`` is a batch of its own.

    >>> TokenBudget(512)(longest=100, waiting=3_000)
    (100, 5)
    """

    tokens: int = 512

    def __call__(self, longest: int, waiting: int) -> tuple[int, int]:
        """The width of the longest pair, and as many rows as the budget allows."""
        return longest, max(1, self.tokens // longest)


@dataclass(frozen=True)
class PackingPolicy:
    """How pairs share rows.

    shape:         decides the shape of each batch.
    pairs_per_row: maximum number of pairs in a row; None for no limit.
    minimum_fill:  minimum share of a row that must be tokens of pairs, 0 to 1. It bounds the waste: a row that would be
                   emptier starts a new, narrower batch instead. 1 allows no padding.
    launch_tokens: a batch of fewer tokens takes as long as one of so many; 0 if each token takes its time.
    """

    shape: BatchShape = field(default_factory=TokenBudget)
    pairs_per_row: int | None = None
    minimum_fill: float = 0.75
    launch_tokens: int = 0


@dataclass(frozen=True)
class SchedulePolicy:
    """What runs side by side.

    workers:           number of batches that run side by side, each on its share of the threads.
    tokens_per_worker: a batch of more tokens gets all threads.
    serial_share:      share of a batch's time that more threads do not shorten, 0 to 1.
    """

    workers: int = 1
    tokens_per_worker: int = 1024
    serial_share: float = SERIAL_SHARE


@dataclass(frozen=True)
class BatchPolicy:
    """All preferences of a backend for its batches.

    prefetch_pairs: number of pairs of a long list that are tokenised while as many earlier ones run, or None.
    first_pairs:    number of pairs of the first window of a list, if later ones are prefetched: it is the wait before
                    the device has something to do.
    warm_up_runs:   number of runs of a shape, one after the other, until all later ones are as fast as they get.
    """

    packing: PackingPolicy = field(default_factory=PackingPolicy)
    schedule: SchedulePolicy = field(default_factory=SchedulePolicy)
    prefetch_pairs: int | None = None
    first_pairs: int = 1
    warm_up_runs: int = 1

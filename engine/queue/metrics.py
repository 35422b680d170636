"""What a queue has done and what waits in it: counters that a service exports."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from modernrank.timing import StageTimes

# Upper bounds in seconds of the classes in which the time in the queue is counted; the last class has none.
WAIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Metrics:
    """A snapshot. Counts and seconds are sums since ``load`` unless they say otherwise.

    waiting_calls:    calls of which batches wait at this moment, ``entering_calls`` included.
    waiting_tokens:   tokens of these batches, padding included.
    entering_calls:   lists in progress, at this moment, whose next window waits until the queue has room.
    running:          runs in progress at this moment.
    estimated_wait:   seconds until what waits at this moment is done, as an estimate; None before the first run.
    estimate_error:   mean relative error of the estimates for single runs, each made before its run; None before the
                      second run.
    completed, failed, cancelled, timed_out, refused: number of calls that ended in this way. A long list counts once
                      for each window. A call that ends before its first window is planned counts only if it is refused.
    pairs:            pairs whose runs ended, also with an error. Equal pairs of a window count once.
    pair_tokens:      their tokens.
    computed_tokens:  tokens that were computed, padding included.
    runs:             runs of the backend.
    joined_runs:      runs that served several calls.
    wait_seconds:     time from the arrival of each call to its first run.
    wait_counts:      number of calls by that time: up to each of WAIT_BOUNDS, and above the last.
    stages:           seconds of each stage: tokenising, planning, packing, running, unpacking.

    >>> Metrics(pair_tokens=75, computed_tokens=100).padding
    0.25
    """

    waiting_calls: int = 0
    waiting_tokens: int = 0
    entering_calls: int = 0
    running: int = 0
    estimated_wait: float | None = None
    estimate_error: float | None = None
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    refused: int = 0
    pairs: int = 0
    pair_tokens: int = 0
    computed_tokens: int = 0
    runs: int = 0
    joined_runs: int = 0
    wait_seconds: float = 0.0
    wait_counts: tuple[int, ...] = (0,) * (len(WAIT_BOUNDS) + 1)
    stages: StageTimes = field(default_factory=StageTimes)

    @property
    def padding(self) -> float:
        """The share of the computed tokens that was padding."""
        return 1 - self.pair_tokens / self.computed_tokens if self.computed_tokens else 0.0


@dataclass
class Counters:
    """The counts behind ``Metrics``, under the queue's lock."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    refused: int = 0
    pairs: int = 0
    pair_tokens: int = 0
    computed_tokens: int = 0
    runs: int = 0
    joined_runs: int = 0
    wait_seconds: float = 0.0
    wait_counts: list[int] = field(default_factory=lambda: [0] * (len(WAIT_BOUNDS) + 1))

    def count_wait(self, seconds: float) -> None:
        """Count the time of a call in the queue."""
        self.wait_seconds += seconds
        self.wait_counts[bisect_left(WAIT_BOUNDS, seconds)] += 1

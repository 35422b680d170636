"""Which batches get all threads, and which run side by side: pure functions that need no model.

Small matrix products make threads wait for one another between operators. Batches that run side by side, each on a
share of the threads (a *worker*), do not wait; but with fewer batches than workers some threads would be idle. So most
batches of a long list run side by side, and the last few, or a very long one, get all threads:

    5 equal batches, 2 workers:   worker 1  a c │ e, on
                                  worker 2  b d │ all threads
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from .policy import SchedulePolicy


@dataclass(frozen=True)
class Schedule:
    """Indices of batches, each exactly once.

    alone:        with all threads, one after the other, first.
    side_by_side: then these, in this order: each worker takes the next when it is free.
    cost:         estimated length of the whole, in tokens that one worker computes.
    """

    alone: tuple[int, ...]
    side_by_side: tuple[int, ...]
    cost: float


def schedule(tokens: Sequence[int], policy: SchedulePolicy) -> Schedule:
    """The fastest of the schedules that give a few batches, the longest or the shortest, all threads.

    Args:
        tokens: computed tokens of each batch, its cost.
        policy: how many batches run side by side, and what that costs.

    >>> schedule([100, 100, 100], SchedulePolicy(workers=2, tokens_per_worker=1024))
    Schedule(alone=(2,), side_by_side=(0, 1), cost=160.0)
    """
    longest_first = sorted(range(len(tokens)), key=lambda batch: -tokens[batch])
    if policy.workers == 1:
        return Schedule(tuple(longest_first), (), float(sum(tokens)))
    if len(tokens) == 1:  # the calls that take the least time
        alone = policy.serial_share < 1 or tokens[0] > policy.tokens_per_worker
        return _estimate([0] if alone else [], [] if alone else [0], tokens, policy)
    long = [batch for batch in longest_first if tokens[batch] > policy.tokens_per_worker]
    rest = longest_first[len(long) :]
    return min(
        (
            _estimate(alone, [batch for batch in rest if batch not in alone], tokens, policy)
            for alone in _candidates(long, rest, policy.workers)
        ),
        key=lambda candidate: candidate.cost,
    )


def _candidates(long: list[int], rest: list[int], workers: int) -> list[list[int]]:
    """What to run alone: ``long``, and none or up to ``workers`` of the others from one end."""
    counts = range(1, min(workers, len(rest)) + 1)
    return [long, *(long + rest[-count:] for count in counts), *(long + rest[:count] for count in counts)]


def _estimate(alone: list[int], side_by_side: list[int], tokens: Sequence[int], policy: SchedulePolicy) -> Schedule:
    shrunk = policy.serial_share + (1 - policy.serial_share) / policy.workers
    busy_until = [0] * policy.workers
    for batch in side_by_side:
        heapq.heappush(busy_until, heapq.heappop(busy_until) + tokens[batch])
    cost = sum(tokens[batch] for batch in alone) * shrunk + max(busy_until)
    return Schedule(tuple(alone), tuple(side_by_side), cost)

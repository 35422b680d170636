"""Which runs have all threads to themselves, and which go side by side: pure functions, no model needed.

Small matrix products leave threads waiting for one another between operators. Runs side by side, each on a share of
the threads (a *stream*), do not wait; but with fewer runs than streams some threads would stand idle. So most runs of
a long list go side by side, and the odd ones, or a very long one, have all threads:

    5 equal runs, 2 streams:   stream 1  a c │ e, on
                               stream 2  b d │ all threads
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

# How the time of one run shrinks with the threads that share it, by Amdahl's law: measured at 1.6 to 1.7 times for
# two threads on runs of 50 to 500 tokens, which is a serial share of about a fifth.
SERIAL_SHARE = 0.2


@dataclass(frozen=True)
class Schedule:
    """Indices of runs, each exactly once.

    alone:        with all threads, one after the other, first.
    side_by_side: then these, in this order: each stream takes the next when it is free.
    cost:         estimated length of the whole, in tokens that one stream computes.
    """

    alone: tuple[int, ...]
    side_by_side: tuple[int, ...]
    cost: float


def schedule(
    tokens: Sequence[int], streams: int, tokens_per_stream: int, serial_share: float = SERIAL_SHARE
) -> Schedule:
    """The quickest of the schedules that give the longest, or the shortest, few runs all threads.

    Args:
        tokens: computed tokens of each run, its cost.
        streams: runs that may go side by side.
        tokens_per_stream: a longer run always has all threads: it uses them well, and takes much memory.
        serial_share: of a run's time that more threads do not shorten; 1 where a run alone gains nothing.

    >>> schedule([100, 100, 100], streams=2, tokens_per_stream=1024)
    Schedule(alone=(2,), side_by_side=(0, 1), cost=160.0)
    """
    longest_first = sorted(range(len(tokens)), key=lambda run: -tokens[run])
    if streams == 1:
        return Schedule(tuple(longest_first), (), float(sum(tokens)))
    long = [run for run in longest_first if tokens[run] > tokens_per_stream]
    rest = longest_first[len(long) :]
    return min(
        (
            _of(alone, [run for run in rest if run not in alone], tokens, streams, serial_share)
            for alone in _choices(long, rest, streams)
        ),
        key=lambda found: found.cost,
    )


def _choices(long: list[int], rest: list[int], streams: int) -> list[list[int]]:
    """What to run alone: ``long``, and none, or up to ``streams`` of the others from one end."""
    most = min(streams, len(rest))
    return [
        long,
        *(long + rest[-count:] for count in range(1, most + 1)),
        *(long + rest[:count] for count in range(1, most + 1)),
    ]


def _of(
    alone: list[int], side_by_side: list[int], tokens: Sequence[int], streams: int, serial_share: float
) -> Schedule:
    shrunk = serial_share + (1 - serial_share) / streams
    busy_until = [0] * streams
    for run in side_by_side:
        heapq.heappush(busy_until, heapq.heappop(busy_until) + tokens[run])
    cost = sum(tokens[run] for run in alone) * shrunk + max(busy_until)
    return Schedule(tuple(alone), tuple(side_by_side), cost)

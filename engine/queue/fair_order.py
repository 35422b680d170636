"""The order in which waiting calls are served: by priority, by size, by deadline, by arrival; and fair by tokens.

- **Priority.** A call of a more urgent class goes first. But while less urgent calls wait, every eighth run is for the
  one of them that has waited longest, so none starves: of n calls in less urgent classes, each has a run at least once
  in 8 n runs.
- **Size, deadline, arrival.** Within a class, calls with at most a quarter of a round left come before those with at
  most a round, and these before lists. Among these three the earliest deadline is next, and of equal ones, or without
  deadlines, the call that came first. So a short call does not wait for a list, whatever their deadlines, and calls of
  about the same size end one after the other, not all at the end.
- **Fairness** overrides these. When a call is served, the time of its class advances by the tokens of the batch,
  divided by the number of calls of the class that wait. Each call has a clock, which begins at the time of its class
  and advances by the tokens that it is served itself (weighted fair queueing with equal weights). A call whose clock is
  a round, ``quantum`` tokens, behind the time has had a round less than its equal share, and is next. So no call that
  waits ever lacks more than a round and two batches of its share, and neither a list with an early deadline nor a
  stream of short calls holds others back.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator

from .call import Call

# One run in this many goes to a less urgent class, if a call waits there.
RUNS_PER_LESS_URGENT = 8

_Turn = tuple[int, int, float, int]  # priority, size, deadline, number
_Clock = tuple[int, float, int]  # priority, clock, number


class FairOrder:
    """The calls that wait. The caller holds a lock.

    Args:
        quantum: tokens of a round.

    >>> from modernrank.batching.packing import plan
    >>> from modernrank.batching.policy import BatchPolicy
    >>> from modernrank.queue.urgency import Urgency
    >>> long, short = (Call([], plan([9] * pairs, BatchPolicy()), 1, Urgency()) for pairs in (500, 1))
    >>> order = FairOrder(quantum=100)
    >>> order.add(long)
    >>> order.add(short)
    >>> next(order.candidates()) is short
    True
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._turns: list[tuple[_Turn, Call]] = []
        self._clocks: list[tuple[_Clock, Call]] = []
        self._keys: dict[Call, tuple[_Turn, _Clock]] = {}
        self._now: defaultdict[int, float] = defaultdict(float)  # the time of each class
        self._waiting: Counter[int] = Counter()  # the number of its calls
        self._numbers = itertools.count()
        self._runs = 0
        self._passed_over = 0  # runs since a less urgent class had one

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Call]:
        """All calls, by priority, size, deadline and arrival."""
        return (call for _, call in self._turns)

    def add(self, call: Call) -> None:
        """Let a call wait."""
        call.clock, call.number = self._now[call.urgency.priority], next(self._numbers)
        call.served = self._runs
        self._waiting[call.urgency.priority] += 1
        self._insert(call)

    def remove(self, call: Call) -> None:
        """Let a call wait no more."""
        self._waiting[call.urgency.priority] -= 1
        self._take_out(call)

    def candidates(self) -> Iterator[Call]:
        """The calls, the one to be served next first. A worker that cannot serve it looks at the following ones."""
        if not self._turns:
            return
        if self._passed_over >= RUNS_PER_LESS_URGENT - 1 and self._turns[0][0][0] < self._turns[-1][0][0]:
            yield min(self._less_urgent(), key=lambda call: (call.served, call.number))
        (priority, clock, _), furthest_behind = self._clocks[0]
        if self._now[priority] - clock >= self._quantum:
            yield furthest_behind
        yield from self

    def beside(self, lead: Call, limit: int) -> Iterator[Call]:
        """Up to ``limit`` calls of the class of ``lead`` in their order: those that its run may serve as well."""
        same_class = (call for call in self if call.urgency.priority == lead.urgency.priority and call is not lead)
        return itertools.islice(same_class, limit)

    def serve(self, call: Call, tokens: int, lead: bool = True) -> None:
        """Move the clock of a call by ``tokens``, and the time of its class by its part of them.

        Args:
            call: it waits here, and goes on waiting with the batches that it still has.
            tokens: what it is served.
            lead: whether the run was chosen for it, and does not merely serve it as well.
        """
        priority = call.urgency.priority
        self._take_out(call)
        self._now[priority] += tokens / self._waiting[priority]
        if lead and self._turns:
            if priority > self._turns[0][0][0]:
                self._passed_over = 0
            elif priority < self._turns[-1][0][0]:
                self._passed_over += 1
        call.clock += tokens
        self._runs += 1
        call.served = self._runs
        self._insert(call)

    def _insert(self, call: Call) -> None:
        priority = call.urgency.priority
        size = bisect_left((self._quantum // 4, self._quantum), call.batches.load.tokens)
        turn, clock = (priority, size, call.urgency.deadline, call.number), (priority, call.clock, call.number)
        self._keys[call] = turn, clock
        insort(self._turns, (turn, call))
        insort(self._clocks, (clock, call))

    def _take_out(self, call: Call) -> None:
        turn, clock = self._keys.pop(call)
        del self._turns[bisect_left(self._turns, turn, key=lambda entry: entry[0])]
        del self._clocks[bisect_left(self._clocks, clock, key=lambda entry: entry[0])]

    def _less_urgent(self) -> Iterator[Call]:
        first = self._turns[0][0][0]
        return (call for call in self if call.urgency.priority > first)

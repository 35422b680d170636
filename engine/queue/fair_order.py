"""The order in which waiting calls are served: by priority, fairly by tokens, by deadline, by size, by arrival.

- **Priority.** A call of a more urgent class goes first. But while less urgent calls wait, every eighth run is for the
  one of them that has waited longest, so none starves: of n calls in less urgent classes, each has a run at least once
  in 8 n runs.
- **Fairness.** Within a class calls are served in rounds. Each has a clock, which moves by the tokens it is served,
  and a round is ``quantum`` tokens of it; the call whose round is earliest is next. The time of the class moves by the
  tokens served, divided by the number of calls that wait (as in weighted fair queueing). A new call starts at the
  beginning of the present round, so it has no credit for the past, and no stream of new calls keeps an older one back.
- **Deadline.** Of the calls in the same round, the one with the earliest deadline is next. So a long list with an early
  deadline cannot keep all others waiting.
- **Size, arrival.** Without deadlines, calls with at most a quarter of a round left come before those with at most a
  round, and these before lists; among these three the one that came first is next. So a short call does not wait for a
  list, and calls of about the same size end one after the other, not all at the end.

So a call waits at most for two rounds and a batch of each other call of its class, and for an eighth of all runs.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator

from .call import Call

# Every so many runs one goes to a less urgent class, if a call waits there.
RUNS_PER_LESS_URGENT = 8

_Key = tuple[int, int, float, int, int]  # priority, round, deadline, size, number


class FairOrder:
    """The calls that wait. The caller holds a lock.

    Args:
        quantum: tokens of a round.

    >>> from modernrank.batching.packing import plan
    >>> from modernrank.batching.policy import BatchPolicy
    >>> from modernrank.queue.urgency import Urgency
    >>> long, short = (Call([], plan([], BatchPolicy()), 1, Urgency.of(priority)) for priority in (0, 0))
    >>> order = FairOrder(quantum=100)
    >>> order.add(long)
    >>> order.serve(long, tokens=500)
    >>> order.add(short)
    >>> next(order.candidates()) is short
    True
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._sorted: list[tuple[_Key, Call]] = []
        self._keys: dict[Call, _Key] = {}
        self._now: defaultdict[int, float] = defaultdict(float)  # the time of each class
        self._waiting: Counter[int] = Counter()  # the number of its calls
        self._numbers = itertools.count()
        self._runs = itertools.count(1)
        self._passed_over = 0  # runs since a less urgent class had one

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[Call]:
        """All calls, the next one first, but for the runs of less urgent classes."""
        return (call for _, call in self._sorted)

    def add(self, call: Call) -> None:
        """Let a call wait."""
        priority = call.urgency.priority
        call.clock = int(self._now[priority] // self._quantum) * self._quantum
        call.number = next(self._numbers)
        self._waiting[priority] += 1
        self._insert(call)

    def remove(self, call: Call) -> None:
        """Let a call wait no more."""
        self._waiting[call.urgency.priority] -= 1
        self._take_out(call)

    def _take_out(self, call: Call) -> None:
        at = bisect_left(self._sorted, self._keys.pop(call), key=lambda entry: entry[0])
        del self._sorted[at]

    def candidates(self) -> Iterator[Call]:
        """The calls, the one to be served next first. A worker that cannot serve it looks at the following ones."""
        if self._passed_over >= RUNS_PER_LESS_URGENT - 1 and self._others_wait():
            yield min(self._less_urgent(), key=lambda call: (call.served, call.number))
        yield from self

    def beside(self, lead: Call, limit: int) -> Iterator[Call]:
        """Up to ``limit`` calls of the class of ``lead`` in their order: those that its run may serve as well."""
        same_class = (call for call in self if call.urgency.priority == lead.urgency.priority and call is not lead)
        return itertools.islice(same_class, limit)

    def serve(self, call: Call, tokens: int, lead: bool = True) -> None:
        """Move the clock of a call by ``tokens``.

        Args:
            call: it waits here, and goes on waiting with the batches that it still has.
            tokens: what it is served.
            lead: whether the run was chosen for it, and does not merely serve it as well.
        """
        priority = call.urgency.priority
        self._take_out(call)
        self._now[priority] += tokens / self._waiting[priority]
        if lead:
            first = self._sorted[0][1].urgency.priority if self._sorted else priority
            if priority > first:
                self._passed_over = 0
            elif self._sorted and self._sorted[-1][1].urgency.priority > priority:
                self._passed_over += 1
        call.clock += tokens
        call.served = next(self._runs)
        self._insert(call)

    def _others_wait(self) -> bool:
        return bool(self._sorted) and self._sorted[0][0][0] < self._sorted[-1][0][0]

    def _less_urgent(self) -> Iterator[Call]:
        first = self._sorted[0][1].urgency.priority
        return (call for call in self if call.urgency.priority > first)

    def _insert(self, call: Call) -> None:
        urgency = call.urgency
        size = bisect_left((self._quantum // 4, self._quantum), call.batches.load.tokens)
        key = (urgency.priority, call.clock // self._quantum, urgency.deadline, size, call.number)
        self._keys[call] = key
        insort(self._sorted, (key, call))

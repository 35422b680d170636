"""The order in which waiting calls are served: by priority, then fairly by tokens, then by deadline.

- **Priority.** A call of a more urgent class goes first. But while less urgent calls wait, every eighth run is for the
  one of them that has waited longest, so none starves: of n calls in less urgent classes, each has a run at least once
  in 8 n runs.
- **Fairness.** Within a class each call has a clock, which moves by the tokens that it is served. The call whose clock
  is furthest behind is next (start-time fair queueing). A new call starts where its class stands, without credit for
  the past.
- **Deadline.** Clocks are compared in rounds of ``quantum`` tokens. Of the calls in the same round, the one with the
  earliest deadline goes first. So a deadline decides among calls that have had about the same, and a long list with an
  early deadline cannot keep all others waiting.

So a call waits at most for one round and one batch of each other call of its class, and for an eighth of all runs.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator

from .call import Call

# Every so many runs one goes to a less urgent class, if a call waits there.
RUNS_PER_LESS_URGENT = 8

_Key = tuple[int, int, float, int, int]


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
        self._now: defaultdict[int, int] = defaultdict(int)  # the clock of each class: of its call served last
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
        call.clock, call.number = self._now[call.urgency.priority], next(self._numbers)
        insort(self._sorted, (self._key(call), call))

    def remove(self, call: Call) -> None:
        """Let a call wait no more."""
        at = bisect_left(self._sorted, self._key(call), key=lambda entry: entry[0])
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
            call: it waits here, and goes on waiting.
            tokens: what it is served.
            lead: whether the run was chosen for it, and does not merely serve it as well.
        """
        priority = call.urgency.priority
        self.remove(call)
        if lead:
            self._now[priority] = max(self._now[priority], call.clock)
            first = self._sorted[0][1].urgency.priority if self._sorted else priority
            if priority > first:
                self._passed_over = 0
            elif self._sorted and self._sorted[-1][1].urgency.priority > priority:
                self._passed_over += 1
        call.clock += tokens
        call.served = next(self._runs)
        insort(self._sorted, (self._key(call), call))

    def _others_wait(self) -> bool:
        return bool(self._sorted) and self._sorted[0][0][0] < self._sorted[-1][0][0]

    def _less_urgent(self) -> Iterator[Call]:
        first = self._sorted[0][1].urgency.priority
        return (call for call in self if call.urgency.priority > first)

    def _key(self, call: Call) -> _Key:
        urgency = call.urgency
        return urgency.priority, call.clock // self._quantum, urgency.deadline, call.clock, call.number

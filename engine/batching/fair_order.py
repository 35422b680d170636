"""The order in which the batches of several calls run: fair by tokens, so that no call waits for another's whole list.

Each call has a clock that its batches move forward by their tokens, and the call whose clock is furthest behind is
served next (start-time fair queueing). A new call starts at the time of the call that was served last: it has no credit
for the past, and waits for at most one batch of each other call.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Call(Generic[T]):
    """A call: its clock, in tokens, its number in the order of arrival, and what waits of it: tokens and item."""

    clock: int
    number: int
    waiting: deque[tuple[int, T]] = field(default_factory=deque)


class FairOrder(Generic[T]):
    """Items of several calls. Several threads may use it at once.

    >>> order = FairOrder[str]()
    >>> long, short = order.begin(), order.begin()
    >>> for item in ("long 1", "long 2", "long 3"):
    ...     order.add(long, 100, item)
    >>> order.take()
    'long 1'
    >>> order.add(short, 10, "short 1")
    >>> order.take(), order.take(), order.take(), order.take()
    ('short 1', 'long 2', 'long 3', None)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, Call[T]] = {}
        self._numbers = itertools.count()
        self._now = 0

    def begin(self) -> Call[T]:
        """A new call, whose items are to wait beside those of others until ``end``."""
        with self._lock:
            call = Call[T](self._now, next(self._numbers))
            self._calls[call.number] = call
            return call

    def end(self, call: Call[T]) -> None:
        """Forget a call. What still waits of it is never taken."""
        with self._lock:
            del self._calls[call.number]

    def add(self, call: Call[T], tokens: int, item: T) -> None:
        """Let an item of a call wait. Items of one call are taken in the order in which they were added.

        Args:
            call: whose it is.
            tokens: its cost, at least 1.
            item: what ``take`` returns.
        """
        with self._lock:
            call.waiting.append((tokens, item))

    def take(self) -> T | None:
        """The item that is next, or None if none waits."""
        with self._lock:
            waiting = [call for call in self._calls.values() if call.waiting]
            if not waiting:
                return None
            call = min(waiting, key=lambda call: (call.clock, call.number))
            tokens, item = call.waiting.popleft()
            self._now = max(self._now, call.clock)
            call.clock += tokens
            return item

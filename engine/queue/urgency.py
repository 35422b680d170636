"""How urgent a call is: its priority, and the moment at which its result is of no more use."""

from __future__ import annotations

import math
import operator
import time
from dataclasses import dataclass
from typing import Any

from modernrank.errors import DeadlineError, InputError

# The same range as in Cohere's API, so a server can pass the number on.
MAX_PRIORITY = 999


@dataclass(frozen=True)
class Urgency:
    """What a call asks of the queue.

    priority: its class, 0 to MAX_PRIORITY; 0 is served first.
    timeout:  seconds that the caller gave it; None for no limit.
    deadline: the moment at which they are over, on the clock of ``time.monotonic``; infinity for none.

    >>> Urgency.of(priority=3).deadline
    inf
    """

    priority: int = 0
    timeout: float | None = None
    deadline: float = math.inf

    @staticmethod
    def of(priority: Any = 0, timeout: Any = None) -> Urgency:
        """The urgency of a call that begins now.

        Raises:
            InputError: ``priority`` is not a whole number from 0 to MAX_PRIORITY, or ``timeout`` not a number above 0.
        """
        seconds = _seconds(timeout)
        return Urgency(_priority(priority), seconds, math.inf if seconds is None else time.monotonic() + seconds)

    def seconds_left(self) -> float | None:
        """The seconds until the deadline, 0 if it has passed; None if there is none."""
        return None if self.timeout is None else max(0.0, self.deadline - time.monotonic())

    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.timeout is not None and time.monotonic() >= self.deadline

    def check(self) -> None:
        """Do nothing before the deadline.

        Raises:
            DeadlineError: it has passed.
        """
        if self.passed():
            raise self.error()

    def error(self) -> DeadlineError:
        """What a call that has passed its deadline raises."""
        return DeadlineError(
            f"the call was not done within its timeout of {self.timeout:g} s; raise the timeout, send fewer or shorter "
            "pairs, or give it a more urgent priority",
            timeout=self.timeout,
            priority=self.priority,
        )


def _priority(value: Any) -> int:
    try:
        priority = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        priority = -1
    if not 0 <= priority <= MAX_PRIORITY:
        raise InputError(
            f"priority is {value!r}; it must be a whole number from 0, the most urgent, to {MAX_PRIORITY}",
            argument="priority",
            value=value,
            limit=MAX_PRIORITY,
        )
    return priority


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"timeout is {value!r}; it must be a number of seconds above 0, or None for no limit",
            argument="timeout",
            value=value,
        )
    return seconds

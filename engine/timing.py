"""Where the time of scoring goes: a clock that the runtime keeps, and a service may export as a metric."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Stages:
    """Seconds spent in each stage, summed over threads: runs side by side count as often as there are of them.

    >>> (Stages(run=3.0) - Stages(run=1.0)).run
    2.0
    """

    tokenise: float = 0.0
    plan: float = 0.0
    pack: float = 0.0
    run: float = 0.0
    unpack: float = 0.0

    def __sub__(self, earlier: Stages) -> Stages:
        """What was spent since ``earlier``."""
        before = asdict(earlier)
        return Stages(**{name: seconds - before[name] for name, seconds in asdict(self).items()})


class StageClock:
    """Adds up the seconds of the stages; may be used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = asdict(Stages())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the ``with`` block to stage ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[name] += spent

    def read(self) -> Stages:
        """The sums so far."""
        with self._lock:
            return Stages(**self._seconds)

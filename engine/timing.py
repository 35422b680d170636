"""Where the time of scoring goes: seconds by stage, which a service may export as metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from .host import renew_after_fork


@dataclass(frozen=True)
class StageTimes:
    """Seconds spent in each stage, summed over threads: batches that run side by side count separately.

    >>> (StageTimes(run=3.0) - StageTimes(run=1.0)).run
    2.0
    """

    tokenise: float = 0.0
    plan: float = 0.0
    pack: float = 0.0
    run: float = 0.0
    unpack: float = 0.0

    def __sub__(self, earlier: StageTimes) -> StageTimes:
        """The seconds spent since ``earlier``."""
        before = asdict(earlier)
        return StageTimes(**{name: seconds - before[name] for name, seconds in asdict(self).items()})


class StageTimer:
    """Adds up the seconds of each stage. Several threads may use it at once."""

    def __init__(self) -> None:
        self._seconds = asdict(StageTimes())
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Replace the lock, in a forked process."""
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the ``with`` block towards the stage ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[name] += spent

    def read(self) -> StageTimes:
        """The sums so far."""
        with self._lock:
            return StageTimes(**self._seconds)

"""Carry out a plan: runs with all threads, then runs side by side on a session's streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from modernrank.errors import ModernRankError

from .packing import Plan, Run

RunOne = Callable[[Run, bool], None]


class Streams:
    """As many workers as the session has streams, shared by all callers of one ``Reranker``.

    A run has all threads only while its caller is the only one: with several callers at work, their runs go side by
    side. So a machine is never given more threads than it has for long, and no caller waits for another's whole list.
    A score is the same either way, as a kernel's result does not depend on the threads that share it.
    """

    def __init__(self, streams: int) -> None:
        self._pool = ThreadPoolExecutor(streams, "modernrank-stream") if streams > 1 else None
        self._lock = threading.Lock()
        self._callers = 0

    def carry_out(self, plan: Plan, run_one: RunOne) -> None:
        """Call ``run_one(run, side_by_side)`` for each run. The first error stops what has not begun."""
        pool = self._pool
        waiting: list[Future[None]] = []
        with self._calling():
            try:
                for index in plan.schedule.alone:
                    if pool is not None and self._callers > 1:
                        waiting.append(_submit(pool, run_one, plan.runs[index]))
                    else:
                        run_one(plan.runs[index], False)
                if pool is not None:
                    waiting += [_submit(pool, run_one, plan.runs[index]) for index in plan.schedule.side_by_side]
                for future in waiting:
                    future.result()
            finally:
                for future in waiting:
                    future.cancel()

    def close(self) -> None:
        """End the workers, after the runs that were given to them."""
        if self._pool is not None:
            self._pool.shutdown()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        with self._lock:
            self._callers += 1
        try:
            yield
        finally:
            with self._lock:
                self._callers -= 1


def _submit(pool: ThreadPoolExecutor, run_one: RunOne, run: Run) -> Future[None]:
    try:
        return pool.submit(run_one, run, True)
    except RuntimeError as error:  # the pool has ended: another thread has closed the reranker
        raise ModernRankError(f"the reranker was closed while it scored ({error})") from error

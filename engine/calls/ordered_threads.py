"""A few threads that do small jobs, the most urgent first: the tokenising of calls that an event loop makes.

Every eighth job is the one that has waited longest, so none waits for ever.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from modernrank.batching.start import fulfil
from modernrank.errors import BackendError, ClosedError
from modernrank.host import renew_after_fork

R = TypeVar("R")
# Every so many jobs one is that which has waited longest.
JOBS_PER_OLDEST = 8
_Job = tuple[tuple[int, ...], int, Future[Any], Callable[[], Any]]


class OrderedThreads:
    """Threads that take the job of the lowest rank next, and of equal ranks the one that came first.

    They start when they are first needed, and once more in a forked process.

    >>> threads = OrderedThreads(1, "example")
    >>> threads.submit((0, 0), lambda: 6 * 7).result()
    42
    >>> threads.close()
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._closed = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without threads and jobs, in a forked process."""
        self._changed = threading.Condition(threading.Lock())
        self._jobs: list[_Job] = []
        self._taken = 0
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []

    def submit(self, rank: tuple[int, ...], job: Callable[[], R]) -> Future[R]:
        """Let a job wait. Its future can be cancelled until it begins.

        Raises:
            ClosedError: ``close`` was called.
            BackendError: no thread can start.
        """
        future: Future[R] = Future()
        with self._changed:
            if self._closed:
                raise _closed_error()
            if len(self._threads) < self._count:
                self._start()
            heapq.heappush(self._jobs, (rank, next(self._numbers), future, job))
            self._changed.notify()
        return future

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the machine refuses another one
            if not self._threads:
                raise BackendError(f"no thread can start ({error}); allow this user more threads") from error
        else:
            self._threads.append(thread)

    def close(self) -> None:
        """End the jobs that wait with a ``ClosedError``, and wait for those that have begun."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = self._jobs, []
            self._changed.notify_all()
        for _, _, future, _ in jobs:
            if future.set_running_or_notify_cancel():
                future.set_exception(_closed_error())
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return
                _, _, future, job = self._take()
            fulfil(future, job)
            del future, job  # while this thread waits for the next one, it keeps nothing of the last

    def _take(self) -> _Job:
        self._taken += 1
        if self._taken % JOBS_PER_OLDEST:
            return heapq.heappop(self._jobs)
        oldest = min(self._jobs, key=lambda job: job[1])
        self._jobs.remove(oldest)
        heapq.heapify(self._jobs)
        return oldest


def _closed_error() -> ClosedError:
    return ClosedError("this AsyncReranker is closed")

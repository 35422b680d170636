"""A few threads that do small jobs, the most urgent first: the tokenising of calls that an event loop makes."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from modernrank.errors import ClosedError
from modernrank.host import renew_after_fork

R = TypeVar("R")


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
        self._jobs: list[tuple[tuple[int, ...], int, Future[Any], Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []

    def submit(self, rank: tuple[int, ...], job: Callable[[], R]) -> Future[R]:
        """Let a job wait. Its future can be cancelled until it begins.

        Raises:
            ClosedError: ``close`` was called.
        """
        future: Future[R] = Future()
        with self._changed:
            if self._closed:
                raise ClosedError("this AsyncReranker is closed")
            heapq.heappush(self._jobs, (rank, next(self._numbers), future, job))
            if len(self._threads) < self._count:
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel the jobs that wait, and wait for those that have begun."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = self._jobs, []
            self._changed.notify_all()
        for _, _, future, _ in jobs:
            future.cancel()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return
                _, _, future, job = heapq.heappop(self._jobs)
            _carry_out(future, job)


def _carry_out(future: Future[Any], job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
        future.set_exception(error)
    else:
        future.set_result(result)

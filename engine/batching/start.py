"""Work for a thread pool that is done exactly once, whatever the pool does with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

R = TypeVar("R")


def start(pool: ThreadPoolExecutor, work: Callable[..., R], *arguments: Any) -> Future[R]:
    """Give ``work`` to a pool, or do it in this thread where the pool starts no more: exactly once in either case.

    After the main thread has ended, Python starts nothing in pools, but other threads may go on. A machine may also
    refuse another thread; the pool has queued the work then, and may yet reach it.
    """
    task = _Task(work, arguments)
    try:
        pool.submit(task.run)
    except RuntimeError:
        task.run()
    return task.future


def fulfil(future: Future[R], work: Callable[[], R]) -> None:
    """Do ``work`` for a future, unless it was cancelled. An error is raised where the result is awaited."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
        future.set_exception(error)
    else:
        future.set_result(result)


class _Task(Generic[R]):
    """A call that is made once, by whichever thread comes first, and its result."""

    def __init__(self, work: Callable[..., R], arguments: tuple[Any, ...]) -> None:
        self.future: Future[R] = Future()
        self._work, self._arguments = work, arguments
        self._claim = threading.Lock()

    def run(self) -> None:
        """Make the call, unless another thread has begun it or it was cancelled."""
        if not self._claim.acquire(blocking=False):
            return
        fulfil(self.future, partial(self._work, *self._arguments))

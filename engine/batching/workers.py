"""Carry out a plan: batches with all threads, then batches side by side on a pool of workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from modernrank.errors import ClosedError
from modernrank.host import renew_after_fork

from .batch import PlannedBatch
from .fair_order import Call, FairOrder
from .packing import Plan

RunBatch = Callable[[PlannedBatch, bool], None]
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


class _Task(Generic[R]):
    """A call that is made once, by whichever thread comes first, and its result."""

    def __init__(self, work: Callable[..., R], arguments: tuple[Any, ...]) -> None:
        self.future: Future[R] = Future()
        self._work, self._arguments = work, arguments
        self._claim = threading.Lock()

    def run(self) -> None:
        """Make the call, unless another thread has begun it or it was cancelled."""
        if not self._claim.acquire(blocking=False) or not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._work(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class WorkerPool:
    """As many workers as the backend runs batches side by side, shared by all callers.

    A batch gets all threads only while its caller is the only one. With several callers, every batch runs side by side,
    so the machine never gets more threads than it has for long. A worker that is idle takes the next batch in
    ``FairOrder``, so no caller waits for another's whole list. The score is the same either way, because a kernel's
    result does not depend on the number of threads.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._closed = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Start a new pool in a forked process, where the parent's threads do not exist."""
        self._pool = ThreadPoolExecutor(self._workers, "modernrank-worker") if self._workers > 1 else None
        self._order = FairOrder[_Task[None]]()
        self._lock = threading.Lock()
        self._callers = 0

    def carry_out(self, plan: Plan, run_batch: RunBatch) -> None:
        """Call ``run_batch(batch, side_by_side)`` for each batch. The first error cancels those that have not begun."""
        pending: list[Future[None]] = []
        with self._counted(), self._call() as call:
            try:
                for index in plan.schedule.alone:
                    if self._pool is not None and self._callers > 1:
                        pending.append(self._submit(call, run_batch, plan.batches[index]))
                    else:
                        run_batch(plan.batches[index], False)
                pending += [self._submit(call, run_batch, plan.batches[index]) for index in plan.schedule.side_by_side]
                for future in pending:
                    future.result()
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        """Stop the workers, after the batches that they have received."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown()

    def _submit(self, call: Call[_Task[None]], run_batch: RunBatch, batch: PlannedBatch) -> Future[None]:
        """Let a batch wait. For each that waits, a worker is asked to run the next one, whosever it is."""
        if self._closed or self._pool is None:
            raise ClosedError("the model was closed while it scored")
        task = _Task(run_batch, (batch, True))
        self._order.add(call, batch.tokens, task)
        start(self._pool, self._run_next, self._order)
        return task.future

    @staticmethod
    def _run_next(order: FairOrder[_Task[None]]) -> None:
        task = order.take()
        if task is not None:  # else a caller that failed has left with what waited of it
            task.run()

    @contextmanager
    def _call(self) -> Iterator[Call[_Task[None]]]:
        order = self._order  # the one of this process, if it forks meanwhile
        call = order.begin()
        try:
            yield call
        finally:
            order.end(call)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._callers += 1
        try:
            yield
        finally:
            with self._lock:
                self._callers -= 1

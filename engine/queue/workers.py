"""The threads that carry out runs, and how a caller's thread takes part."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from modernrank.errors import BackendError
from modernrank.host import renew_after_fork

from .call import Call, Run
from .run_queue import CallCancelledError, RunQueue


class Execute(Protocol):
    """Computes a run and puts the logits into its calls."""

    def __call__(self, run: Run) -> None:
        """Compute ``run``. An error is that of all its calls."""
        ...


class WorkerPool:
    """As many threads as the backend runs batches side by side; they take runs from a queue.

    A batch gets all threads of the machine only if nothing else runs, so the machine rarely has more threads than
    cores. If a thread calls and no other call waits, it runs such a batch itself, which saves waking a worker. A score
    is the same either way, because a kernel's result does not depend on the number of threads.

    The threads start when they are first needed, and once more in a forked process. They are daemons, so that a program
    which does not close a model ends; until then they go on, also after the main thread has ended.
    """

    def __init__(self, queue: RunQueue, execute: Execute, workers: int) -> None:
        self._queue = queue
        self._execute = execute
        self._workers = workers
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without threads in a forked process, where the parent's do not exist."""
        self._queue.renew()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Call, continues: bool = False) -> None:
        """Let the workers carry out a call. ``RunQueue.submit`` has the arguments and further errors.

        Raises:
            BackendError: no worker thread can start.
        """
        self._start()
        self._queue.submit(call, continues)

    def carry_out(self, call: Call, continues: bool = False) -> None:
        """Carry out a call and wait for its end.

        Raises:
            ModernRankError: what the call ended with, or was refused with.
        """
        try:
            while call.batches.run_alone and (run := self._queue.take_alone(call)) is not None:
                self._carry_out(run)
            if call.batches:
                ended = threading.Event()
                call.on_end = ended.set
                self.submit(call, continues or call.first_run is not None)
                if not ended.wait(_waitable(call.urgency.seconds_left())):
                    self._queue.withdraw(call, call.urgency.error())
        except BaseException as error:
            self._queue.withdraw(call, error if isinstance(error, Exception) else CallCancelledError())
            raise
        if call.error is not None:
            raise call.error

    def close(self) -> None:
        """End the calls that wait, and wait for the runs in progress."""
        self._queue.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _start(self) -> None:
        if len(self._threads) >= self._workers and all(thread.is_alive() for thread in self._threads):
            return
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            while len(self._threads) < self._workers:
                name = f"modernrank-worker-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the machine refuses another one
                    if self._threads:
                        return  # those that there are do the work
                    raise BackendError(f"no worker can start ({error}); allow this user more threads") from error
                self._threads.append(thread)

    def _work(self) -> None:
        while (run := self._queue.take()) is not None:
            self._carry_out(run, caught=BaseException)  # an error is that of the call, and this thread goes on
            del run  # while this thread waits for the next one, it keeps nothing of the last

    def _carry_out(self, run: Run, caught: type[BaseException] = Exception) -> None:
        errors: dict[Call, BaseException] = {}
        start = time.perf_counter()
        try:
            self._execute(run)
        except caught as error:
            errors = self._one_by_one(run, error)
        self._queue.finish(run, time.perf_counter() - start, errors)

    def _one_by_one(self, run: Run, error: BaseException) -> dict[Call, BaseException]:
        """Errors by call. If a run of several calls fails, each part is tried by itself: no call pays for another."""
        if len(run.parts) == 1:
            return {run.parts[0][0]: error}
        errors: dict[Call, BaseException] = {}
        for part in run.split():
            try:
                self._execute(part)
            except BaseException as own:  # noqa: BLE001 - raised where the result is awaited
                errors[part.parts[0][0]] = own
        return errors


def _waitable(seconds: float | None) -> float | None:
    """What ``Event.wait`` takes: it refuses a time of centuries."""
    return None if seconds is None else min(seconds, threading.TIMEOUT_MAX)

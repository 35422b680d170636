"""The queue: calls come in, and idle workers take runs.

    submit ─▶ entering ─▶ waiting, in FairOrder ─▶ take ─▶ a run of one call or of several ─▶ finish ─▶ on_end
              (a list in progress,                 by idle workers
              while there is no room)

Nothing in here computes anything. ``workers.py`` carries the runs out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from modernrank.batching.batch import PlannedBatch
from modernrank.batching.policy import BatchPolicy
from modernrank.errors import ClosedError, DeadlineError, OverloadedError
from modernrank.host import pause_for_fork
from modernrank.timing import StageTimes

from .call import Call, Place, Run
from .cost import CostModel, Load
from .fair_order import FairOrder
from .joining import JointBatch
from .metrics import Counters, Metrics

logger = logging.getLogger(__name__)

# One call counts with at most this share of the limit towards it: a long list then leaves room for others.
SHARE_OF_LIMIT = 8
# Seconds that a fork waits for the runs in progress.
LONGEST_PAUSE = 60.0
# How many other calls a run looks at for batches that it can take along.
JOIN_CANDIDATES = 64


class CallCancelledError(Exception):
    """The error of a call whose caller has gone. No caller sees it."""


class RunQueue:
    """The calls that wait, and those that run. All methods may be called from several threads at once.

    Args:
        policy: how many runs go on at once, what is long, what can be joined.
        limit: maximum number of tokens that wait; None for no limit.
    """

    def __init__(self, policy: BatchPolicy, limit: int | None = None) -> None:
        self._policy = policy
        self._limit = limit
        self._closed = False
        self._costs = {True: CostModel(), False: CostModel()}  # by `Run.shares_threads`
        self._counters = Counters()
        self.renew()
        pause_for_fork(self)

    def renew(self) -> None:
        """Forget all calls and locks, in a forked process: they are those of the parent's threads."""
        self._paused = False
        self._changed = threading.Condition(threading.Lock())
        self._order = FairOrder(self._policy.schedule.tokens_per_worker)
        self._entering: deque[Call] = deque()
        self._running: set[Run] = set()
        self._counted_tokens = 0
        self._load = Load()  # of the calls that enter and wait

    def pause(self) -> None:
        """Let no run begin, wait for those in progress, and hold the lock: before this process forks."""
        self._changed.acquire()
        self._paused = True
        until = time.monotonic() + LONGEST_PAUSE
        try:
            while self._running and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
        except BaseException:  # Ctrl-C
            self.resume()
            raise
        if self._running:
            logger.warning("the process forks while a run is in progress, because it takes over %g s", LONGEST_PAUSE)

    def resume(self) -> None:
        """Let runs begin again, in the process that has forked."""
        self._paused = False
        self._changed.notify_all()
        self._changed.release()

    def submit(self, call: Call, continues: bool = False) -> None:
        """Let a call wait.

        Args:
            call: what it needs.
            continues: whether it is a later window of a list in progress, which is never refused, but waits for room.

        Raises:
            OverloadedError: too many tokens wait.
            DeadlineError: the call's deadline has passed.
            ClosedError: the queue is closed.
            ModernRankError: what the call was withdrawn with meanwhile.
        """
        with self._changed:
            self._check_open()
            if call.error is not None:
                raise call.error  # it was withdrawn before it came
            call.urgency.check()
            has_room = not self._entering and self._has_room(call)
            if not has_room and not continues:
                call.ended = True
                self._counters.refused += 1
                raise self._overloaded(call.batches.load.tokens, self._counts_as(call))
            self._load.add_all(call.batches.load)
            if has_room:
                self._enter(call)
                self._changed.notify(min(call.batches.load.runs, self._policy.schedule.workers))
            else:
                call.place = Place.ENTERING
                self._entering.append(call)

    def check_room(self) -> None:
        """Refuse a call before it is tokenised, if the queue has no room for a single token.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._limit is None:
            return
        with self._changed:
            if self._entering or self._counted_tokens >= self._limit:
                self._counters.refused += 1
                raise self._overloaded(1, 1)

    def take_alone(self, call: Call) -> Run | None:
        """The next batch that ``call``, which has not been submitted, runs itself with all threads.

        None if it has none left, or if others wait or run.

        Raises:
            ClosedError: the queue is closed.
            DeadlineError: the call's deadline has passed.
        """
        with self._changed:
            self._check_open()
            call.urgency.check()
            if self._paused or not call.batches.run_alone or self._running or self._order or self._entering:
                return None
            batch = call.batches.take()
            call.own_run = Run(batch, ((call, batch),), shares_threads=False)
            return self._started(call.own_run)

    def take(self) -> Run | None:
        """The next run, for a worker. It waits until there is one; None if the queue is closed."""
        while True:
            useless: list[Call] = []
            with self._changed:
                while not self._closed and not useless:
                    if (run := self._next_run(useless)) is not None:
                        return run
                    if not useless:
                        self._changed.wait()
                if self._closed:
                    return None
            for call in useless:
                self.withdraw(call, call.urgency.error() if call.urgency.passed() else CallCancelledError())

    def finish(self, run: Run, seconds: float, errors: dict[Call, BaseException] | None = None) -> None:
        """Record the end of a run, and end its calls that have no batches left.

        Args:
            run: what ``take`` or ``take_alone`` returned. Its logits are in its calls.
            seconds: what it took.
            errors: the error of each call that failed.
        """
        ended = []
        with self._changed:
            self._running.discard(run)
            self._counters.runs += 1
            self._counters.joined_runs += len(run.parts) > 1
            self._counters.computed_tokens += run.planned.tokens
            for call, batch in run.parts:
                call.has_all_threads, call.own_run = False, None
                call.unfinished -= 1
                self._counters.pairs += sum(map(len, batch.rows))
                self._counters.pair_tokens += sum(call.lengths(batch))
                error = (errors or {}).get(call)
                if not call.ended and (error is not None or not call.unfinished):
                    self._end(call, error)
                    ended.append(call)
            if self._order or self._paused or self._closed:
                self._changed.notify_all()
            if not errors:
                self._costs[run.shares_threads].observe(Load.of(run.planned), seconds)
        _notify(ended)

    def withdraw(self, call: Call, error: BaseException) -> bool:
        """End a call now: its batches that wait are forgotten, its result is ``error``. False if it has ended."""
        with self._changed:
            if call.own_run is not None:  # its caller was interrupted
                self._running.discard(call.own_run)
                self._changed.notify_all()
            if call.ended:
                return False
            self._end(call, error)
        _notify([call])
        return True

    def close(self) -> None:
        """End the calls that wait with a ``ClosedError``, and wait for the runs of other threads."""
        with self._changed:
            self._closed = True
            ended = [*self._order, *self._entering]
            for call in ended:
                self._end(call, closed_error())
            self._changed.notify_all()
        _notify(ended)
        with self._changed:
            while any(run.thread != threading.get_ident() for run in self._running):
                self._changed.wait()

    def metrics(self, stages: StageTimes) -> Metrics:
        """A snapshot, with the ``stages`` that the scorer has timed."""
        with self._changed:
            counts: dict[str, Any] = asdict(self._counters) | {"wait_counts": tuple(self._counters.wait_counts)}
            models = [model for model in self._costs.values() if model.error is not None]
            most_used = max(models, key=lambda model: model.runs, default=None)
            return Metrics(
                waiting_calls=len(self._order) + len(self._entering),
                waiting_tokens=self._load.tokens,
                entering_calls=len(self._entering),
                running=len(self._running),
                estimated_wait=self._estimated_wait(),
                estimate_error=None if most_used is None else most_used.error,
                stages=stages,
                **counts,
            )

    def estimated_wait(self) -> float | None:
        """Seconds until what waits is done, as an estimate; None before the first run."""
        with self._changed:
            return self._estimated_wait()

    def _next_run(self, useless: list[Call]) -> Run | None:
        """Take the next run, or find a call that is overdue or whose caller is gone; neither if none may run now."""
        schedule = self._policy.schedule
        if self._paused or len(self._running) >= schedule.workers:
            return None
        long_one_runs = any(run.planned.tokens > schedule.tokens_per_worker for run in self._running)
        for call in self._order.candidates():
            if call.urgency.passed() or call.is_gone():
                useless.append(call)
                return None
            if call.has_all_threads or (long_one_runs and self._is_long(call)):
                continue
            return self._take_of(call)
        return None

    def _take_of(self, call: Call) -> Run:
        shares = not self._may_have_all_threads(call)
        parts = [(call, self._take_batch(call, lead=True))]
        planned = self._join_others(parts)
        call.has_all_threads = not shares
        return self._started(Run(planned, tuple(parts), shares))

    def _may_have_all_threads(self, call: Call) -> bool:
        """Whether the next batch of a call gets all threads.

        It does if nothing runs, and either the call is the only one and its plan runs the batch alone, or only long
        batches wait. Long batches are as fast one after the other as side by side.
        """
        if self._running:
            return False
        if self._policy.schedule.workers == 1:
            return True
        if len(self._order) == 1:
            return call.batches.run_alone
        return self._is_long(call) and all(self._is_long(other) for other in self._order)

    def _is_long(self, call: Call) -> bool:
        batch = call.batches.peek()
        return batch is not None and batch.tokens > self._policy.schedule.tokens_per_worker

    def _take_batch(self, call: Call, lead: bool, width: int | None = None) -> PlannedBatch:
        """Take the next batch of a call that waits, or one of this width, and move the call on in the order."""
        batch = call.batches.take(width)
        self._load.add(batch, sign=-1)
        self._order.serve(call, batch.tokens, lead)
        if not call.batches:
            self._order.remove(call)
            call.place = Place.WITH_CALLER
        self._count(call, min(call.counted, call.batches.load.tokens))
        self._let_enter()
        return batch

    def _join_others(self, parts: list[tuple[Call, PlannedBatch]]) -> PlannedBatch:
        """Take along batches of other calls, and add them to ``parts``, which has one; the joint batch."""
        ((lead, batch),) = parts
        if len(self._order) == (lead.place is Place.WAITING):
            return batch  # no other call waits
        joint = JointBatch(self._policy.packing, batch, lead.lengths(batch))
        width = batch.width if self._policy.packing.minimum_fill == 1 else None  # without padding: only of this width
        for other in list(self._order.beside(lead, JOIN_CANDIDATES)):
            if joint.is_full:
                break
            if other.has_all_threads or other.urgency.passed() or other.is_gone():
                continue
            candidate = other.batches.peek(width)
            if candidate is not None and joint.add(candidate, other.lengths(candidate)):
                parts.append((other, self._take_batch(other, lead=False, width=width)))
        return joint.planned if len(parts) > 1 else batch

    def _started(self, run: Run) -> Run:
        now = time.monotonic()
        for call, _ in run.parts:
            if call.first_run is None:
                call.first_run = now
                self._counters.count_wait(now - call.submitted)
        self._running.add(run)
        return run

    def _enter(self, call: Call) -> None:
        call.place = Place.WAITING
        self._count(call, self._counts_as(call))
        self._order.add(call)

    def _let_enter(self) -> None:
        while self._entering and self._has_room(self._entering[0]):
            self._enter(self._entering.popleft())
            self._changed.notify()

    def _has_room(self, call: Call) -> bool:
        return self._limit is None or self._counted_tokens + self._counts_as(call) <= self._limit

    def _counts_as(self, call: Call) -> int:
        """The tokens of a call that are in the queue at once."""
        tokens = call.batches.load.tokens
        return tokens if self._limit is None else min(tokens, max(1, self._limit // SHARE_OF_LIMIT))

    def _count(self, call: Call, tokens: int) -> None:
        """Let a call count with so many tokens towards the limit."""
        self._counted_tokens += tokens - call.counted
        call.counted = tokens

    def _end(self, call: Call, error: BaseException | None) -> None:
        """End a call, wherever it is."""
        call.ended, call.error = True, error
        if call.place is Place.ENTERING:
            self._entering.remove(call)
        elif call.place is Place.WAITING:
            self._order.remove(call)
        if call.place is not Place.WITH_CALLER:
            self._load.add_all(call.batches.load, sign=-1)
        call.place = Place.WITH_CALLER
        call.batches.clear()
        self._count(call, 0)
        self._count_end(error)
        self._let_enter()

    def _count_end(self, error: BaseException | None) -> None:
        counters = self._counters
        if error is None:
            counters.completed += 1
        elif isinstance(error, DeadlineError):
            counters.timed_out += 1
        elif isinstance(error, CallCancelledError):
            counters.cancelled += 1
        else:
            counters.failed += 1

    def _estimated_wait(self) -> float | None:
        """Seconds until what waits is done, at the rate of the recent runs."""
        shared, alone = self._costs[True], self._costs[False]
        if shared.runs:
            seconds = shared.seconds(self._load)
            return None if seconds is None else seconds / self._policy.schedule.workers
        return alone.seconds(self._load)

    def _overloaded(self, tokens: int, counts_as: int) -> OverloadedError:
        """What a call of so many tokens is refused with; it may try again when as much has been done as it needs."""
        missing = self._counted_tokens + counts_as - (self._limit or 0)
        wait = self._estimated_wait()
        retry_after = None if wait is None else wait * min(1.0, missing / max(1, self._counted_tokens))
        estimate = "" if wait is None else f"; it takes about {wait:.1f} s to do what waits"
        return OverloadedError(
            f"{self._counted_tokens:,} tokens wait, this call has {tokens:,} or more, and max_waiting_tokens is "
            f"{self._limit:,}{estimate}. Try again later, or send fewer or shorter pairs",
            waiting_tokens=self._counted_tokens,
            tokens=tokens,
            limit=self._limit,
            estimated_wait=wait,
            retry_after=retry_after,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()


def closed_error() -> ClosedError:
    """What a call on a closed model raises."""
    return ClosedError("this model is closed; load it again, or score inside its `with` block")


def _notify(ended: Iterable[Call]) -> None:
    for call in ended:
        if call.on_end is not None:
            call.on_end()

"""The calls that event loops make: how one is carried out, and which are in progress.

            event loop                 tokenising threads             workers of the Scorer
    await score(..) ──window──▶ encode, check, plan ──▶ queue ──▶ run ──▶ run ──┐
          ▲                                                                     │
          └───────────────────── call_soon_threadsafe ◀─────────────────────────┘

The loop itself only cuts windows, awaits, and collects results.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from modernrank.arrays import FloatArray
from modernrank.batching.prefetch import Window, growing_windows
from modernrank.calls.ordered_threads import OrderedThreads
from modernrank.errors import ClosedError
from modernrank.host import renew_after_fork
from modernrank.queue.run_queue import CallCancelledError
from modernrank.queue.urgency import Urgency
from modernrank.scorer import Scorer, Scoring

from .windows import PairSteps, Steps

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")

# Windows are small, so that the tokenising of a short call does not wait for that of a long list.
FIRST_WINDOW = 32
WINDOW = 256


@dataclass
class CallReport:
    """What a call took. It is filled in while the call goes on, and stays correct if the call fails or is cancelled.

    pairs:            pairs or parts that were tokenised; equal documents of a ranking count once.
    tokens:           their tokens, special tokens included.
    tokenise_seconds: of tokenising them and planning the batches.
    wait_seconds:     that batches waited for the first worker, summed over windows.
    run_seconds:      from the first run of each window to its end, summed over windows.
    """

    pairs: int = 0
    tokens: int = 0
    tokenise_seconds: float = 0.0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0

    def add(self, other: CallReport) -> None:
        """Count what another call took towards this one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class AsyncCall:
    """Carries out one call: at most one window of it is tokenised, and one is scored, at a time."""

    def __init__(
        self, scorer: Scorer, tokenising: OrderedThreads, urgency: Urgency, report: CallReport | None = None
    ) -> None:
        self._scorer = scorer
        self._tokenising = tokenising
        self._urgency = urgency
        self._report = report or CallReport()
        self._jobs = 0
        self._scoring: Scoring | None = None
        self._aborted: BaseException | None = None
        self.task = asyncio.current_task()

    def abort(self, error: BaseException) -> None:
        """End the call with ``error``. Any thread may do this."""
        self._aborted = error
        scoring = self._scoring
        if scoring is not None:
            self._scorer.withdraw(scoring, error)

    def check(self) -> None:
        """Raise what the call was aborted with, if it was."""
        if self._aborted is not None:
            raise self._aborted

    async def results(self, steps: Steps[T, E, R]) -> list[R]:
        """The results of all windows. This is not a generator, so its cleanup also runs if the task is dropped."""
        results: list[R] = []
        with closing(_Ahead(self, steps, self._windows(steps))) as ahead:
            while (prepared := await ahead.take()) is not None:
                results.append(await self._results(steps, *prepared, continues=bool(results)))
        steps.end()
        return results

    async def windows(self, steps: Steps[T, E, R], size: int) -> AsyncGenerator[R, None]:
        """The results of each window of at most ``size`` items."""
        continues = False
        try:
            with closing(_Ahead(self, steps, self._windows(steps, size))) as ahead:
                while (prepared := await ahead.take()) is not None:
                    yield await self._results(steps, *prepared, continues=continues)
                    continues = True
        except GeneratorExit:  # the caller stops early
            steps.end()
            raise
        steps.end()

    async def stream(
        self, steps: PairSteps, source: AsyncIterable[object], size: int
    ) -> AsyncGenerator[FloatArray, None]:
        """The same for the items of an asynchronous source, of which nothing is read before its turn."""
        continues = False
        async with aclosing(_cut(source, size)) as windows:
            try:
                async for window in windows:
                    prepared = await self._encode(steps, window)
                    yield await self._results(steps, *prepared, continues=continues)
                    continues = True
            except GeneratorExit:
                steps.end()
                raise
        steps.end()

    async def outside_the_loop(self, job: Callable[[], R]) -> R:
        """The result of a job that a tokenising thread does."""
        return await self._start(job)

    def _start(self, job: Callable[[], R]) -> asyncio.Future[R]:
        """Let a job wait for a tokenising thread. A call's first jobs go before the later ones of others."""
        self.check()
        rank = (self._urgency.priority, min(self._jobs, 2))
        self._jobs += 1
        return asyncio.wrap_future(self._tokenising.submit(rank, job))

    def _windows(self, steps: Steps[T, E, R], size: int | None = None) -> Iterator[Window[T]]:
        policy = self._scorer.policy
        first = max(FIRST_WINDOW, policy.first_pairs)
        return growing_windows(steps.items, min(size or first, first), size or policy.prefetch_pairs or WINDOW)

    def encode_next(
        self, steps: Steps[T, E, R], windows: Iterator[Window[T]]
    ) -> asyncio.Future[tuple[E, Scoring]] | None:
        """Start to encode the next window; None after the last. An error of the stream is that of the future."""
        try:
            window = next(windows, None)
        except Exception as error:  # noqa: BLE001 - raised where its window would have come
            failed: asyncio.Future[tuple[E, Scoring]] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed
        return None if window is None else self._encode(steps, window)

    def _encode(self, steps: Steps[T, E, R], window: Window[T]) -> asyncio.Future[tuple[E, Scoring]]:
        def encode() -> tuple[E, Scoring]:
            begun = time.monotonic()
            with self._scorer.timer.stage("tokenise"):
                encoded = steps.encode(window)
            scoring = self._scorer.begin(steps.token_ids(encoded), self._urgency)
            self._report.tokenise_seconds += time.monotonic() - begun
            self._report.pairs, self._report.tokens = steps.size.pairs, steps.size.tokens
            return encoded, scoring

        return self._start(encode)

    async def _results(self, steps: Steps[T, E, R], encoded: E, scoring: Scoring, continues: bool) -> R:
        steps.announce(encoded)
        return steps.results(encoded, await self._score(scoring, continues))

    async def _score(self, scoring: Scoring, continues: bool) -> FloatArray:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._scoring = scoring
        try:
            self.check()  # after the assignment: another thread may abort the call at any moment
            if scoring.call.unfinished:
                self._scorer.submit(scoring, partial(_wake, loop, ended), loop.is_closed, continues)
                await ended
        finally:
            self._scoring = None
            self._count_time(scoring)
            if not ended.done() or ended.cancelled():  # the task is cancelled, or out of time
                gone = self._urgency.error() if self._urgency.passed() else CallCancelledError()
                self._scorer.withdraw(scoring, gone)
        return scoring.logits()

    def _count_time(self, scoring: Scoring) -> None:
        now, call = time.monotonic(), scoring.call
        begun = now if call.first_run is None else call.first_run
        self._report.wait_seconds += begun - call.submitted
        self._report.run_seconds += now - begun


class _Ahead(Generic[T, E]):
    """Tokenises the windows of a call. While one window is scored, the next one is tokenised."""

    def __init__(self, call: AsyncCall, steps: Steps[T, E, object], windows: Iterator[Window[T]]) -> None:
        self._call, self._steps, self._windows = call, steps, windows
        self._next = call.encode_next(steps, windows)

    async def take(self) -> tuple[E, Scoring] | None:
        """The next window, ready to be scored; None after the last one."""
        if self._next is None:
            return None
        prepared = await self._next
        self._next = self._call.encode_next(self._steps, self._windows)
        return prepared

    def close(self) -> None:
        """Give up the window that is being tokenised."""
        if self._next is None or self._next.get_loop().is_closed():
            return
        if not self._next.cancel() and not self._next.cancelled():
            self._next.exception()  # or a result: nobody needs it any more


class CallsInProgress:
    """The calls of all event loops and threads, for ``close``."""

    def __init__(self) -> None:
        self._calls: set[AsyncCall] = set()
        self._waiting: list[Callable[[], None]] = []
        self._closed = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget the calls of the parent, in a forked process."""
        self._lock = threading.Lock()
        self._calls.clear()

    def check_open(self) -> None:
        """Refuse a new call after ``close``.

        Raises:
            ClosedError: ``close`` was called.
        """
        if self._closed:
            raise ClosedError("this AsyncReranker is closed")

    @contextmanager
    def holding(self, call: AsyncCall) -> Iterator[None]:
        """A ``with`` block during which ``call`` is in progress."""
        with self._lock:
            self.check_open()
            self._calls.add(call)
        try:
            yield
        finally:
            self.remove(call)

    def remove(self, call: AsyncCall) -> None:
        """A call has ended."""
        with self._lock:
            self._calls.discard(call)
            waiting = [] if self._calls else self._waiting
            if waiting:
                self._waiting = []
        for notify in waiting:
            notify()

    def close(self, abort: bool) -> None:
        """Let no more begin.

        Args:
            abort: whether the calls in progress end with a ``ClosedError``. A stream that the calling task has not read
                to its end always ends so, because this task cannot read it while it waits.
        """
        task = asyncio.current_task()
        with self._lock:
            self._closed = True
            ended = [call for call in self._calls if abort or call.task is task]
        for call in ended:
            call.abort(ClosedError("this AsyncReranker was closed while it scored"))
            self.remove(call)

    async def wait_until_none(self) -> None:
        """Wait for the end of all calls."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        with self._lock:
            if not self._calls:
                return
            self._waiting.append(partial(_wake, loop, ended))
        await ended


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """End the wait for ``future`` from another thread, such as that of a worker."""
    try:
        loop.call_soon_threadsafe(_set, future)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _cut(source: AsyncIterable[T], size: int) -> AsyncGenerator[Window[T], None]:
    """Cut an asynchronous stream into windows of ``size`` items. An error comes after the windows before it."""
    start, items = 0, list[T]()
    async for item in source:
        items.append(item)
        if len(items) == size:
            yield Window(start, items)
            start, items = start + size, []
    if items:
        yield Window(start, items)

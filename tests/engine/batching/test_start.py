"""Work that is given to a pool is done exactly once, whatever the pool does with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from modernrank.batching.prefetch import prefetch
from modernrank.batching.start import start


class NoMoreThreads(ThreadPoolExecutor):
    """A pool on a machine that refuses a thread now and then: the work is queued by then, as in the real one."""

    def __init__(self) -> None:
        super().__init__(1)
        self.refusals = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:  # type: ignore[override]
        future = super().submit(function, *arguments, **options)
        self.refusals += 1
        if self.refusals % 2:
            raise RuntimeError("can't start new thread")
        return future


def test_queued_work_of_a_pool_that_raises_is_not_done_twice() -> None:
    calls: list[int] = []
    with NoMoreThreads() as pool:
        futures = [start(pool, calls.append, number) for number in range(10)]
    assert all(future.done() for future in futures)
    assert sorted(calls) == list(range(10))


def test_prefetching_loses_nothing_where_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modernrank.batching.prefetch.ThreadPoolExecutor", lambda *arguments: NoMoreThreads())
    assert list(prefetch(str, range(9))) == [str(number) for number in range(9)]


def test_an_error_is_raised_where_the_result_is_awaited() -> None:
    def fail() -> None:
        raise ValueError("7")

    with ThreadPoolExecutor(1) as pool:
        future = start(pool, fail)
    with pytest.raises(ValueError, match="7"):
        future.result()
    pool.shutdown()
    with pytest.raises(ValueError, match="7"):
        start(pool, fail).result()

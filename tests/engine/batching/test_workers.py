"""Scores are the same to the last bit, whatever the threads, the company of a pair, and the other callers."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from modernrank import BackendError, ClosedError, Reranker
from modernrank.batching.batch import PlannedBatch
from modernrank.batching.packing import Plan, plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, SchedulePolicy, TokenBudget
from modernrank.batching.workers import WorkerPool, start

TEXT = "the work under this licence may be changed and given on with its text whole or in part as you like "
PAIRS = [("may I change the work?", TEXT[i % 7 :] * (1 + i % 9)) for i in range(40)]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def load(request: pytest.FixtureRequest, artifacts: Path) -> Callable[..., Reranker]:
    folder = artifacts / {"fp32": "tiny", "int8": "tiny-int8"}[request.param]
    return partial(Reranker.load, folder, precision=request.param)


@pytest.fixture(scope="module")
def scores(load: Callable[..., Reranker]) -> np.ndarray:
    with load(threads=1) as reranker:
        return reranker.score(PAIRS)


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 1), (2, 2), (4, 2), (3, 3)])
def test_threads_and_workers_change_no_score(
    load: Callable[..., Reranker], scores: np.ndarray, threads: int, workers: int
) -> None:
    with load(threads=threads, workers=workers) as reranker:
        assert (reranker.info.threads, reranker.info.workers) == (threads, workers)
        assert np.array_equal(reranker.score(PAIRS), scores)


def test_other_pairs_and_order_do_not_change_a_score(load: Callable[..., Reranker], scores: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(PAIRS))
    with load(threads=2) as reranker:
        assert np.array_equal(np.concatenate([reranker.score([pair]) for pair in PAIRS]), scores)
        assert np.array_equal(reranker.score([PAIRS[i] for i in order]), scores[order])
        assert np.array_equal(np.array(list(reranker.score_iter(PAIRS, window=7))), scores)


def test_many_callers_get_their_own_scores(load: Callable[..., Reranker], scores: np.ndarray) -> None:
    with load(threads=2) as reranker, ThreadPoolExecutor(8) as callers:
        parts = list(callers.map(lambda i: reranker.score(PAIRS[i : i + 10]), range(0, 30, 2)))
    for i, part in zip(range(0, 30, 2), parts, strict=True):
        assert np.array_equal(part, scores[i : i + 10])


def test_closing_while_others_score_is_an_error_for_them_and_no_hang(artifacts: Path) -> None:
    reranker = Reranker.load(artifacts / "tiny", threads=2)
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(reranker.score, PAIRS * 20) for _ in range(8)]
        reranker.close()
        errors = [future.exception(timeout=60) for future in waiting]
    assert {type(error) for error in errors} <= {type(None), ClosedError}


class Jobs:
    """Stands for a backend: records who runs which batch, and holds batches back until ``go``."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.ran: list[tuple[int, bool]] = []
        self.threads: set[str] = set()

    def run(self, batch: PlannedBatch, side_by_side: bool) -> None:
        self.threads.add(threading.current_thread().name)
        self.ran.append((batch.width, side_by_side))
        assert self.go.wait(10)


def plan_of(*widths: int, workers: int = 2) -> Plan:
    return plan(widths, BatchPolicy(PackingPolicy(TokenBudget(1), 1), SchedulePolicy(workers, tokens_per_worker=1024)))


def test_a_batch_that_runs_alone_has_all_threads_in_its_callers_thread() -> None:
    jobs, pool = Jobs(), WorkerPool(2)
    pool.carry_out(plan_of(2000), jobs.run)
    pool.close()
    assert jobs.ran == [(2000, False)]
    assert jobs.threads == {threading.current_thread().name}


def test_with_another_caller_every_batch_runs_side_by_side() -> None:
    jobs, pool = Jobs(), WorkerPool(2)
    jobs.go.clear()
    with ThreadPoolExecutor(1) as callers:
        other = callers.submit(pool.carry_out, plan_of(3000), jobs.run)
        while not jobs.ran:
            time.sleep(0.001)
        second = Jobs()
        pool.carry_out(plan_of(2000), second.run)
        jobs.go.set()
        other.result(timeout=10)
    pool.close()
    assert second.ran == [(2000, True)]


def test_a_short_call_does_not_wait_for_a_long_list() -> None:
    """Two workers are busy with a list of 300 batches; a call of one batch is served by the first that is idle."""
    pool, turn, order = WorkerPool(2), threading.Semaphore(0), list[str]()

    def of(name: str) -> Callable[[PlannedBatch, bool], None]:
        def run(batch: PlannedBatch, side_by_side: bool) -> None:
            order.append(name)
            assert turn.acquire(timeout=30)

        return run

    with ThreadPoolExecutor(2) as callers:
        long = callers.submit(pool.carry_out, plan_of(*[9] * 300), of("long"))
        while len(order) < 2:
            time.sleep(0.001)
        short = callers.submit(pool.carry_out, plan_of(9), of("short"))
        while len(pool._order._calls) < 2 or not any(call.waiting for call in [*pool._order._calls.values()][1:]):
            time.sleep(0.001)
        turn.release(300 + 1)
        short.result(timeout=30)
        long.result(timeout=30)
    pool.close()
    assert order.index("short") <= 2 + 2  # both workers may have begun their next batch in between
    assert len(order) == 301


def test_an_error_of_one_batch_is_raised_and_the_pool_goes_on() -> None:
    pool = WorkerPool(2)

    def fail(batch: PlannedBatch, side_by_side: bool) -> None:
        raise BackendError(f"batch of {batch.width}", rows=1, tokens=batch.width)

    for _ in range(3):
        with pytest.raises(BackendError):
            pool.carry_out(plan_of(9, 8, 7, 6), fail)
    jobs = Jobs()
    pool.carry_out(plan_of(9, 8, 7, 6), jobs.run)
    pool.close()
    assert sorted(width for width, _ in jobs.ran) == [6, 7, 8, 9]


def test_a_closed_pool_refuses_batches() -> None:
    pool = WorkerPool(2)
    pool.close()
    with pytest.raises(ClosedError):
        pool.carry_out(plan_of(9, 8), Jobs().run)


def test_work_is_done_in_the_callers_thread_where_a_pool_accepts_no_more() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    assert start(pool, threading.current_thread).result() is threading.current_thread()

"""Scores are the same to the last bit, whatever the threads, the company of a pair, and the other callers."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from modernrank import BackendError, ClosedError, DeadlineError, Reranker
from modernrank.backends.profiles import default_profiles, policy_of
from modernrank.queue.call import Run
from modernrank.queue.run_queue import RunQueue
from modernrank.queue.urgency import Urgency
from modernrank.queue.workers import WorkerPool
from modernrank.timing import StageTimes
from support.calls import call_of, compute, logits_of, processor_policy

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


class Held:
    """Stands for a model: records who runs which widths, holds runs back until ``go``, and fails for some widths."""

    def __init__(self, fails: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.go = threading.Event()
        self.go.set()
        self.ran: list[tuple[int, bool]] = []
        self.threads: set[str] = set()
        self.fails = fails

    def __call__(self, run: Run) -> None:
        self.threads.add(threading.current_thread().name)
        self.ran.append((run.planned.width, run.shares_threads))
        assert self.go.wait(10)
        if any(len(run.token_ids[pair]) in self.fails for row in run.planned.rows for pair in row):
            raise BackendError(f"batch of {run.planned.width}", rows=1, tokens=run.planned.width)
        compute(run)

    def wait_for(self, runs: int) -> None:
        while len(self.ran) < runs:
            time.sleep(0.001)


@contextmanager
def pool_of(execute: Held, workers: int = 2, budget: int = 1) -> Iterator[WorkerPool]:
    pool = WorkerPool(RunQueue(processor_policy(workers, budget)), execute, workers)
    try:
        yield pool
    finally:
        execute.go.set()
        pool.close()


def test_a_batch_that_runs_alone_has_all_threads_in_its_callers_thread() -> None:
    with pool_of(model := Held()) as pool:
        pool.carry_out(call := call_of(2000))
    assert model.ran == [(2000, False)]
    assert model.threads == {threading.current_thread().name}
    assert call.logits.tolist() == [[2000.0]]


def test_with_another_caller_every_batch_runs_side_by_side() -> None:
    with pool_of(model := Held()) as pool, ThreadPoolExecutor(2) as callers:
        model.go.clear()
        first = callers.submit(pool.carry_out, call_of(3000))
        model.wait_for(1)
        second = callers.submit(pool.carry_out, call_of(900))
        model.wait_for(2)
        model.go.set()
        first.result(10), second.result(10)
    assert model.ran == [(3000, False), (900, True)]


def test_one_worker_runs_one_batch_at_a_time_for_all_callers() -> None:
    with pool_of(model := Held(), workers=1) as pool, ThreadPoolExecutor(4) as callers:
        model.go.clear()
        calls = [callers.submit(pool.carry_out, call_of(9)) for _ in range(4)]
        model.wait_for(1)
        time.sleep(0.05)
        assert len(model.ran) == 1
        model.go.set()
        for call in calls:
            call.result(10)


def test_an_error_of_one_batch_is_raised_and_the_pool_goes_on() -> None:
    with pool_of(Held(fails={8})) as pool:
        for _ in range(3):
            with pytest.raises(BackendError):
                pool.carry_out(call_of(9, 8, 7, 6))
        pool.carry_out(call := call_of(9, 7, 6))
    assert call.logits.tolist() == logits_of((9, 7, 6))


def test_a_run_of_several_calls_that_fails_is_an_error_of_one_of_them_only() -> None:
    policy = policy_of(default_profiles(512), slots=32, workers=2)
    model = Held(fails={13})
    pool = WorkerPool(RunQueue(policy), model, 2)
    with ThreadPoolExecutor(5) as callers:
        model.go.clear()
        busy = []
        for lane in (1, 2):  # one after the other: together they would share a run
            busy.append(callers.submit(pool.carry_out, call_of(400, policy=policy)))
            model.wait_for(lane)
        calls = [call_of(length, policy=policy) for length in (12, 13, 14)]
        futures = [callers.submit(pool.carry_out, call) for call in calls]
        while pool._queue.metrics(StageTimes()).waiting_calls < 3:
            time.sleep(0.001)
        model.go.set()
        errors = [future.exception(10) for future in futures]
        assert [future.exception(10) for future in busy] == [None, None]
    assert pool._queue.metrics(StageTimes()).joined_runs == 1
    pool.close()
    assert list(map(type, errors)) == [type(None), BackendError, type(None)]
    assert [calls[0].logits.tolist(), calls[2].logits.tolist()] == [[[12.0]], [[14.0]]]


def test_a_caller_whose_time_is_over_does_not_wait_for_the_runs_in_progress() -> None:
    with pool_of(model := Held()) as pool, ThreadPoolExecutor(2) as callers:
        model.go.clear()
        busy = [callers.submit(pool.carry_out, call_of(9, 9)) for _ in range(2)]
        model.wait_for(2)
        with pytest.raises(DeadlineError) as caught:
            pool.carry_out(call_of(9, urgency=Urgency.of(timeout=0.05)))
        assert caught.value.details["timeout"] == 0.05
        model.go.set()
        for call in busy:
            call.result(10)


def test_an_interrupted_caller_leaves_nothing_behind() -> None:
    class Interrupted(Held):
        def __call__(self, run: Run) -> None:
            super().__call__(run)
            if run.planned.width == 5:
                raise KeyboardInterrupt

    with pool_of(model := Interrupted(), workers=1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.carry_out(call_of(5))
        pool.carry_out(call := call_of(6, 6))
        metrics = pool._queue.metrics(StageTimes())
    assert call.ended and model.ran == [(5, False), (6, False), (6, False)]
    assert (metrics.cancelled, metrics.completed, metrics.running) == (1, 1, 0)


def test_workers_survive_whatever_a_run_raises() -> None:
    class Ends(Held):
        def __call__(self, run: Run) -> None:
            if run.planned.width == 5:
                raise SystemExit("from a library")
            super().__call__(run)

    with pool_of(Ends()) as pool:
        for _ in range(3):
            with pytest.raises(SystemExit):
                pool.carry_out(call_of(7, 7, 6, 6, 5))
        pool.carry_out(call := call_of(7, 7, 6, 6))
    assert call.logits.tolist() == logits_of((7, 7, 6, 6))


def test_a_timeout_of_centuries_is_taken() -> None:
    with pool_of(Held()) as pool:
        pool.carry_out(call := call_of(9, 8, 7, 6, urgency=Urgency.of(timeout=1e12)))
    assert call.error is None


def test_a_closed_pool_refuses_calls_and_leaves_no_thread() -> None:
    before = threading.active_count()
    pool = WorkerPool(RunQueue(processor_policy()), Held(), 2)
    pool.carry_out(call_of(9, 8, 7, 6))
    assert threading.active_count() == before + 2
    pool.close()
    assert threading.active_count() == before
    with pytest.raises(ClosedError):
        pool.carry_out(call_of(9, 8))


def test_a_model_that_is_forgotten_frees_its_threads(artifacts: Path) -> None:
    before = threading.active_count()
    reranker = Reranker.load(artifacts / "tiny", threads=2)
    reranker.score(PAIRS)
    assert threading.active_count() > before
    del reranker
    gc.collect()
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.001)  # another thread closes it
    assert threading.active_count() == before

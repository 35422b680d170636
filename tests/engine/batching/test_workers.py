"""Scores are the same to the last bit whatever shares the call, the threads or the machine's other callers."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from modernrank import InputError, ModernRankError, Reranker

TEXT = "the work under this licence may be changed and given on with its text whole or in part as you like "
PAIRS = [("may I change the work?", TEXT[i % 7 :] * (1 + i % 9)) for i in range(60)]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def load(request: pytest.FixtureRequest, artifacts: Path) -> Callable[..., Reranker]:
    folder = artifacts / {"fp32": "tiny", "int8": "tiny-int8"}[request.param]
    return partial(Reranker.load, folder, precision=request.param)


@pytest.fixture(scope="module")
def scores(load: Callable[..., Reranker]) -> np.ndarray:
    with load(threads=1) as reranker:
        return reranker.score(PAIRS)


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (2, 1), (2, 2), (4, 2), (3, 3)])
def test_threads_and_streams_change_no_score(
    load: Callable[..., Reranker], scores: np.ndarray, threads: int, streams: int
) -> None:
    with load(threads=threads, workers=streams) as reranker:
        assert (reranker.info.threads, reranker.info.workers) == (threads, streams)
        assert np.array_equal(reranker.score(PAIRS), scores)


def test_company_and_order_do_not_change_a_score(load: Callable[..., Reranker], scores: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(len(PAIRS))
    with load(threads=2) as reranker:
        assert np.array_equal(np.concatenate([reranker.score([pair]) for pair in PAIRS]), scores)
        assert np.array_equal(reranker.score([PAIRS[i] for i in order]), scores[order])
        assert np.array_equal(np.array(list(reranker.score_iter(PAIRS, window=7))), scores)


def test_many_callers_get_their_own_scores(load: Callable[..., Reranker], scores: np.ndarray) -> None:
    with load(threads=2) as reranker, ThreadPoolExecutor(8) as callers:
        parts = list(callers.map(lambda i: reranker.score(PAIRS[i % 50 : i % 50 + 10]), range(40)))
    assert all(np.array_equal(part, scores[i % 50 : i % 50 + 10]) for i, part in enumerate(parts))


def test_closing_while_others_score_is_an_error_for_them_not_a_hang(artifacts: Path) -> None:
    reranker = Reranker.load(artifacts / "tiny", threads=2)
    with ThreadPoolExecutor(4) as callers:
        waiting = [callers.submit(reranker.score, PAIRS * 20) for _ in range(8)]
        reranker.close()
        errors = [future.exception() for future in waiting]
    assert all(error is None or isinstance(error, ModernRankError) for error in errors)


def test_more_streams_than_threads_is_refused(artifacts: Path) -> None:
    with pytest.raises(InputError, match="streams 3 is above the 2 threads"):
        Reranker.load(artifacts / "tiny", threads=2, workers=3)


def test_warmup_takes_any_length(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=2, max_length=64) as reranker:
        reranker.warmup()
        reranker.warmup([1, 5000])
        with pytest.raises(InputError, match="a length is 0"):
            reranker.warmup([0])
    with pytest.raises(ModernRankError, match="closed"):
        reranker.warmup()


def test_the_plan_says_what_runs_where(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=2) as reranker:
        plan = reranker.plan(PAIRS)
    assert plan.waste == 0
    first, header, *kinds = str(plan).splitlines()
    assert first == f"60 pairs of {plan.pair_tokens:,} tokens in {len(plan.batches)} runs, 0.0 % padding"
    assert header.split() == ["rows", "x", "width", "pairs", "threads"]
    assert sum(int(line.split()[0]) for line in kinds) == len(plan.batches)
    assert any(line.endswith("a share") for line in kinds)

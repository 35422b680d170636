"""Where the time goes: every stage counts, differences are stages too, threads add up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from modernrank import Reranker, StageTimes
from modernrank.timing import StageTimer

PAIRS = [("a query", f"document {i}") for i in range(20)]


def test_a_loaded_reranker_has_spent_nothing(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as reranker:
        assert reranker.times == StageTimes()


def test_every_stage_counts(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as reranker:
        reranker.score(PAIRS)
        assert all(seconds > 0 for seconds in asdict(reranker.times).values())


def test_the_stages_of_a_call_are_the_difference(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as reranker:
        reranker.score(PAIRS)
        before = reranker.times
        started = time.perf_counter()
        reranker.score(PAIRS)
        wall = time.perf_counter() - started
        spent = reranker.times - before
    assert all(seconds > 0 for seconds in asdict(spent).values())
    assert sum(asdict(spent).values()) <= wall


def test_differences_are_taken_by_stage() -> None:
    difference = StageTimes(1, 2, 3, 4, 5) - StageTimes(1, 1, 1, 1, 1)
    assert difference == StageTimes(tokenise=0, plan=1, pack=2, run=3, unpack=4)


def test_a_stage_that_fails_counts_too() -> None:
    timer = StageTimer()
    with pytest.raises(KeyError), timer.stage("run"):
        raise KeyError
    assert timer.read().run > 0


def test_threads_add_up() -> None:
    timer = StageTimer()

    def work(_: int) -> None:
        with timer.stage("run"):
            time.sleep(0.02)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert timer.read().run >= 8 * 0.02

"""``Reranker.score`` and ``score_iter``: results, order, several labels, streams, callers, closing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import ClosedError, InputError, Reranker

QUERY = "the terms of the license"
DOCUMENTS = ["a", "derivative works of the Work " * 5, "", "notice " * 30, "a"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]


@pytest.fixture(scope="module")
def of_three_labels(artifacts: Path) -> Iterator[Reranker]:
    with Reranker.load(artifacts / "tiny-cls", threads=1) as loaded:
        yield loaded


def test_scores_are_float32_in_input_order(reranker: Reranker) -> None:
    scores = reranker.score(PAIRS)
    assert scores.dtype == np.float32
    assert scores.shape == (5,)
    assert reranker.score(PAIRS[::-1]).tolist() == scores[::-1].tolist()


def test_equal_pairs_have_equal_scores(reranker: Reranker) -> None:
    scores = reranker.score(PAIRS)
    assert scores[0] == scores[4]


def test_no_pairs_give_an_empty_array(reranker: Reranker, of_three_labels: Reranker) -> None:
    assert reranker.score([]).shape == (0,)
    assert list(reranker.score_iter([])) == []
    assert of_three_labels.score([]).shape == (0, 3)


def test_several_labels_give_a_row_each(of_three_labels: Reranker) -> None:
    assert of_three_labels.labels == ["no", "maybe", "yes"]
    scores = of_three_labels.score(PAIRS)
    assert scores.shape == (5, 3)
    assert np.array_equal(np.array(list(of_three_labels.score_iter(PAIRS))), scores)


def test_a_stream_yields_one_float32_for_each_pair(reranker: Reranker) -> None:
    scores = list(reranker.score_iter(PAIRS))
    assert {type(score) for score in scores} == {np.float32}
    assert scores == reranker.score(PAIRS).tolist()


@pytest.mark.parametrize("window", [1, 3, np.int64(4)])
def test_windows_change_no_score(reranker: Reranker, window: int) -> None:
    assert list(reranker.score_iter(PAIRS, window=window)) == reranker.score(PAIRS).tolist()


def test_an_endless_stream_is_read_a_window_at_a_time(reranker: Reranker) -> None:
    read = itertools.count()
    endless = ((QUERY, DOCUMENTS[next(read) % 5]) for _ in itertools.repeat(None))
    scores = list(itertools.islice(reranker.score_iter(endless, window=10), 25))
    assert scores == np.tile(reranker.score(PAIRS), 5).tolist()
    assert next(read) == 30


@pytest.mark.parametrize("window", [0, -1, 1.5, True])
def test_a_window_is_a_whole_number_of_at_least_1(reranker: Reranker, window: Any) -> None:
    with pytest.raises(InputError) as caught:
        reranker.score_iter(PAIRS, window=window)
    assert caught.value.details == {"argument": "window", "value": window}


def test_a_bad_pair_is_named_by_its_index_in_the_whole_input(reranker: Reranker) -> None:
    pairs: list[Any] = [*[("a", "b")] * 50, ("a", None)]
    for score in (reranker.score, lambda pairs: list(reranker.score_iter(pairs, window=8))):
        with pytest.raises(InputError, match=r"pair 50\b") as caught:
            score(pairs)
        assert caught.value.details["index"] == 50


def test_progress_is_drawn_on_standard_error(reranker: Reranker, capfd: pytest.CaptureFixture[str]) -> None:
    scores = reranker.score((pair for pair in PAIRS), show_progress=True)
    assert scores.tolist() == reranker.score(PAIRS).tolist()
    assert "5pair" in capfd.readouterr().err


def test_threads_may_share_a_reranker(reranker: Reranker) -> None:
    expected = reranker.score(PAIRS).tolist()
    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(lambda _: reranker.score(PAIRS).tolist(), range(40)))
    assert results == [expected] * 40


def test_tokens_are_counted_as_they_are_scored(reranker: Reranker) -> None:
    counts = reranker.count_tokens(pair for pair in PAIRS)
    assert counts.dtype == np.int64
    assert counts.tolist() == [reranker.plan([pair]).pair_tokens for pair in PAIRS]
    assert reranker.count_tokens([]).shape == (0,)


def test_counted_tokens_end_at_the_limit(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1, max_length=20) as short:
        assert short.count_tokens(PAIRS).max() == 20
        assert short.count_tokens(PAIRS, max_length=np.int64(10)).max() == 10  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"pair 1\b"):
            short.count_tokens(PAIRS, truncation="error")


def test_its_encoder_and_its_scorer_give_its_scores(reranker: Reranker) -> None:
    encoded = reranker.encoder.encode(PAIRS)
    logits = reranker.scorer.score([pair.ids for pair in encoded])
    assert logits[:, 0].tolist() == reranker.score(PAIRS).tolist()


def test_a_plan_reports_rows_and_waste_without_scoring(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as reranker:
        plan = reranker.plan(PAIRS)
        assert reranker.times.run == 0
    assert sorted(pair for batch in plan.batches for row in batch.rows for pair in row) == [0, 1, 2, 3, 4]
    assert plan.waste == 0


def test_warmup_takes_lengths_above_the_limit(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=2, max_length=64) as reranker:
        reranker.warmup()
        reranker.warmup([1, np.int64(5000)])
        with pytest.raises(InputError) as caught:
            reranker.warmup([0])
    assert caught.value.details["value"] == 0
    with pytest.raises(ClosedError):
        reranker.warmup()


def test_a_closed_reranker_refuses_work(artifacts: Path) -> None:
    reranker = Reranker.load(artifacts / "tiny", threads=1)
    reranker.close()
    reranker.close()
    with pytest.raises(ClosedError):
        reranker.score(PAIRS)
    with pytest.raises(ClosedError):
        reranker.rank(QUERY, DOCUMENTS)


def test_its_representation_names_the_artifact_and_what_runs(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as reranker:
        assert repr(reranker) == "Reranker('tiny', fp32 on cpu, 1 thread)"
    assert repr(reranker) == "Reranker('tiny', closed)"

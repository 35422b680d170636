"""Agreement of two scorings, on scores whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from modernrank import InputError
from modernrank.evaluation.agreement import measure

PAIRS = [(query, f"document {index}") for query in ("a", "b") for index in range(20)]


def exact_scores() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(len(PAIRS)).astype(np.float32)


def test_equal_scores_agree_fully() -> None:
    agreement = measure(PAIRS, exact_scores(), exact_scores())
    assert agreement.pairs == 40
    assert agreement.queries == 2
    assert agreement.rms == 0
    assert agreement.spearman == pytest.approx(1)
    assert agreement.kendall == pytest.approx(1)
    assert agreement.top10 == 1


def test_reversed_scores_disagree_fully() -> None:
    agreement = measure(PAIRS, exact_scores(), -exact_scores())
    assert agreement.kendall == pytest.approx(-1)
    assert agreement.spearman == pytest.approx(-1)
    assert agreement.top10 == 0


def test_the_rms_difference_is_relative_to_the_standard_deviation() -> None:
    exact = exact_scores()
    assert measure(PAIRS, exact, exact + 0.1).rms == pytest.approx(0.1 / exact.std(), rel=1e-5)


def test_scores_that_are_all_equal_have_a_correlation_of_0() -> None:
    agreement = measure(PAIRS, exact_scores(), np.zeros(len(PAIRS), np.float32))
    assert agreement.kendall == 0
    assert agreement.spearman == 0


def test_a_query_whose_documents_tie_is_not_ranked() -> None:
    exact = np.concatenate([exact_scores()[:20], np.full(20, 5, np.float32)])
    agreement = measure(PAIRS, exact, exact * 2)
    assert agreement.queries == 1
    assert agreement.kendall == pytest.approx(1)


def test_queries_of_two_documents_are_not_ranked() -> None:
    pairs = [*PAIRS[:20], ("c", "one"), ("c", "two")]
    scores = np.arange(22, dtype=np.float32)
    agreement = measure(pairs, scores, scores)
    assert agreement.queries == 1
    assert agreement.pairs == 22


@pytest.mark.parametrize("exact", [np.array([1, 2]), np.array([1, 1, 1])])
def test_without_an_order_there_is_nothing_to_compare(exact: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    scores = exact.astype(np.float32)
    with pytest.raises(InputError) as raised:
        measure(PAIRS[: len(scores)], scores, scores)
    assert raised.value.details == {"pairs": len(scores), "limit": 3}


def test_the_json_has_all_figures() -> None:
    figures = measure(PAIRS, exact_scores(), exact_scores()).as_json()
    assert set(figures) == {"pairs", "queries", "rms", "spearman", "kendall", "top10"}

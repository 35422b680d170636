"""Pairs that exceed ``max_length``: how they are cut, and that no cut is silent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError, Reranker, Truncation, TruncationWarning
from modernrank.options import TruncationChoice, names_of
from modernrank.text.truncation import POLICIES, longest_first

QUERY = "the terms of the license"
DOCUMENTS = ["a", "derivative works of the Work " * 5, "", "notice " * 30, "a"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]
CUT = [1, 3]  # of the pairs, at SHORT tokens
SHORT = 20


@pytest.fixture(scope="module")
def short(artifacts: Path) -> Iterator[Reranker]:
    with Reranker.load(artifacts / "tiny", max_length=SHORT) as loaded:
        yield loaded


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_longest_first_fills_the_room_and_cuts_no_part_below_half_of_it(first: int, second: int, room: int) -> None:
    if first + second <= room:
        return
    kept = longest_first(first, second, room)
    assert sum(kept) == room
    for length, whole in zip(kept, (first, second), strict=True):
        assert min(whole, room // 2) <= length <= whole


@pytest.mark.parametrize(
    ("whole", "kept"), [((12, 10), (3, 2)), ((10, 12), (2, 3)), ((10, 10), (2, 3)), ((300, 299), (3, 2))]
)
def test_the_odd_token_goes_to_the_part_that_is_longer_uncut(whole: tuple[int, int], kept: tuple[int, int]) -> None:
    assert longest_first(*whole, 5) == kept


def test_cut_pairs_are_reported_one_by_one(artifacts: Path) -> None:
    cuts: list[Truncation] = []
    with Reranker.load(artifacts / "tiny", max_length=SHORT, truncation="document") as reranker:
        reranker.score(PAIRS, on_truncate=cuts.append)
        ranking = reranker.rank(QUERY, DOCUMENTS)
    assert [cut.index for cut in cuts] == CUT
    assert {cut.query_tokens_cut for cut in cuts} == {0}
    lost = {place.index: place.tokens_cut for place in ranking if place.tokens_cut}
    assert lost == {cut.index: cut.document_tokens_cut for cut in cuts}


def test_one_warning_counts_all_cut_pairs(short: Reranker, reranker: Reranker) -> None:
    lost = (reranker.count_tokens(PAIRS) - short.count_tokens(PAIRS)).sum()
    with pytest.warns(
        TruncationWarning, match=rf"2 pairs were .*max_length={SHORT} .* {lost} tokens .*pair 1\b"
    ) as seen:
        short.score(PAIRS)
    assert len(seen) == 1


def test_a_single_cut_pair_is_counted_in_the_singular(short: Reranker) -> None:
    with pytest.warns(TruncationWarning, match="^1 pair was "):
        short.score(PAIRS[:2])


def test_the_warning_names_the_line_that_asked_for_the_scores(short: Reranker) -> None:
    with pytest.warns(TruncationWarning) as seen:
        short.score(PAIRS)
    assert seen[0].filename == __file__


def test_a_stream_warns_too_also_when_it_is_left_early(short: Reranker) -> None:
    with pytest.warns(TruncationWarning, match="2 pairs"):
        list(short.score_iter(PAIRS))
    with pytest.warns(TruncationWarning, match="2 pairs"):  # noqa: PT031 - the stream ends inside on purpose
        left_early = short.score_iter(PAIRS)
        next(left_early)
        left_early.close()  # type: ignore[attr-defined]


def test_nothing_is_said_where_nothing_is_cut(reranker: Reranker) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reranker.score(PAIRS)


def test_a_warning_that_is_an_error_comes_before_the_work(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", max_length=SHORT) as reranker, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TruncationWarning):
            reranker.score(PAIRS)
        assert reranker.times.run == 0


def test_a_call_may_lower_the_limit(reranker: Reranker, short: Reranker) -> None:
    cuts: list[Truncation] = []
    scores = reranker.score(PAIRS, max_length=SHORT, on_truncate=cuts.append)
    assert scores.tolist() == short.score(PAIRS, on_truncate=lambda cut: None).tolist()
    assert [cut.index for cut in cuts] == CUT
    stream = reranker.score_iter(PAIRS, max_length=np.int64(SHORT), on_truncate=lambda cut: None)  # type: ignore[arg-type]
    assert list(stream) == scores.tolist()
    assert reranker.rank(QUERY, DOCUMENTS, max_length=SHORT) == short.rank(QUERY, DOCUMENTS)


def test_a_call_cannot_raise_the_limit_of_the_load(short: Reranker) -> None:
    with pytest.raises(InputError) as caught:
        short.score(PAIRS, max_length=SHORT + 1)
    source = "max_length of load"
    assert caught.value.details == {"argument": "max_length", "value": SHORT + 1, "limit": SHORT, "source": source}


def test_the_limit_of_a_call_ends_with_it(reranker: Reranker) -> None:
    before = reranker.score(PAIRS)
    reranker.score(PAIRS, max_length=SHORT, truncation="document", on_truncate=lambda cut: None)
    assert reranker.score(PAIRS).tolist() == before.tolist()
    assert reranker.max_length == 8192


def test_a_call_may_choose_another_policy(artifacts: Path, short: Reranker) -> None:
    cuts: list[Truncation] = []
    short.score([(QUERY * 4, "notice " * 30)], truncation="longest_first", on_truncate=cuts.append)
    assert cuts[0].query_tokens_cut > 0
    with pytest.raises(InputError, match="query"):
        short.score([(QUERY * 4, "notice " * 30)], truncation="document")


@pytest.mark.parametrize("method", ["score", "score_iter"])
def test_truncation_error_refuses_a_pair_and_names_it(short: Reranker, method: str) -> None:
    with pytest.raises(InputError, match=rf"pair 1 .*{SHORT}") as caught:
        list(getattr(short, method)(PAIRS, truncation="error"))
    assert caught.value.details["argument"] == "truncation"


@pytest.mark.parametrize("method", ["score", "score_iter"])
@pytest.mark.parametrize(("max_length", "fact"), [(0, "value"), (8193, "limit"), (1.5, "value"), (2, "minimum")])
def test_a_limit_of_a_call_that_is_out_of_range_is_refused_at_once(
    reranker: Reranker, method: str, max_length: int, fact: str
) -> None:
    with pytest.raises(InputError) as caught:
        getattr(reranker, method)(PAIRS, max_length=max_length)
    assert caught.value.details["argument"] == "max_length"
    assert caught.value.details[fact] == {"value": max_length, "limit": 8192, "minimum": 3}[fact]


def test_every_policy_has_a_rule() -> None:
    """A name that the API accepts is never computed as something else."""
    assert set(POLICIES) == set(names_of(TruncationChoice))


@pytest.mark.parametrize("truncation", ["error", "document"])
def test_a_refused_pair_is_named_by_its_index(reranker: Reranker, truncation: TruncationChoice) -> None:
    pairs = [("a", "b")] * 5 + [("word " * 50, "b")]
    with pytest.raises(InputError) as caught:
        list(reranker.score_iter(pairs, max_length=SHORT, truncation=truncation, window=2))
    assert caught.value.details["index"] == 5


def test_a_callback_that_is_falsy_is_called(short: Reranker) -> None:
    class Cuts(list[Truncation]):
        __call__ = list[Truncation].append

    cuts = Cuts()
    short.score(PAIRS, on_truncate=cuts)
    assert [cut.index for cut in cuts] == CUT

"""What counts as texts and as pairs: every iterable of them, and nothing whose contents would be ignored."""

from __future__ import annotations

import enum
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from modernrank import InputError, Reranker
from modernrank.text.checks import as_pair, check_text

QUERY = "the terms of the license"
DOCUMENTS = ["a", "derivative works", "notice"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]


class Texts(str, enum.Enum):  # noqa: UP042 - StrEnum prints its value
    """Strings that print as something else."""

    QUERY = "the terms of the license"
    UMLAUT = "größe"


class Frame:
    """Iterates over the names of its columns, as the data frames of pandas and Polars do."""

    columns = ("query", "document")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.fixture(scope="module")
def scores(reranker: Reranker) -> list[float]:
    return reranker.score(PAIRS).tolist()


MAPPINGS = [{"a": "text"}, UserDict({"a": "text"}), Frame()]


@pytest.mark.parametrize("documents", MAPPINGS, ids=["dict", "UserDict", "Frame"])
def test_rank_refuses_what_iterates_over_its_keys(reranker: Reranker, documents: Any) -> None:
    with pytest.raises(InputError, match=type(documents).__name__) as caught:
        reranker.rank(QUERY, documents)
    assert caught.value.details["argument"] == "documents"


@pytest.mark.parametrize("pairs", MAPPINGS, ids=["dict", "UserDict", "Frame"])
@pytest.mark.parametrize("method", ["score", "score_iter", "plan", "count_tokens"])
def test_scoring_refuses_what_iterates_over_its_keys(reranker: Reranker, pairs: Any, method: str) -> None:
    with pytest.raises(InputError, match=type(pairs).__name__) as caught:
        getattr(reranker, method)(pairs)
    assert caught.value.details["argument"] == "pairs"


@pytest.mark.parametrize("value", [None, 3, "text", b"text"])
def test_what_is_no_list_is_refused_at_once(reranker: Reranker, value: Any) -> None:
    for method in (reranker.score, reranker.score_iter, lambda pairs: reranker.rank(QUERY, pairs)):
        with pytest.raises(InputError, match=type(value).__name__):
            method(value)


def test_a_single_pair_is_refused_and_the_list_of_it_shown(reranker: Reranker) -> None:
    for pair in ((QUERY, "a"), [QUERY, "a"]):
        with pytest.raises(InputError, match=r"\[\(query, document\)\]"):
            reranker.score(pair)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        [np.array(pair) for pair in PAIRS],
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        dict.fromkeys(PAIRS).keys(),
    ],
    ids=["tuples", "tuple of tuples", "lists", "arrays", "2-D array", "2-D array of objects", "keys of a dict"],
)
def test_pairs_come_in_every_iterable(reranker: Reranker, scores: list[float], pairs: Any) -> None:
    assert reranker.score(pairs).tolist() == scores


def test_pairs_come_from_generators_and_zipped_columns(reranker: Reranker, scores: list[float]) -> None:
    assert reranker.score(pair for pair in PAIRS).tolist() == scores
    assert reranker.score(zip([QUERY] * 3, DOCUMENTS, strict=True)).tolist() == scores


@pytest.mark.parametrize("make", [tuple, iter, np.array, lambda texts: np.array(texts, object), dict.fromkeys])
def test_documents_come_in_every_iterable(reranker: Reranker, make: Any) -> None:
    documents = make(DOCUMENTS)
    if isinstance(documents, dict):
        documents = documents.keys()
    assert reranker.rank(QUERY, documents) == reranker.rank(QUERY, DOCUMENTS)


def test_documents_of_numpy_are_returned_as_python_strings(reranker: Reranker) -> None:
    ranking = reranker.rank(QUERY, [np.str_(document) for document in DOCUMENTS])
    assert {type(place.document) for place in ranking} == {str}


@pytest.mark.parametrize(("shape", "accepted"), [((6,), "pairs"), ((1, 3, 2), "pairs"), ((3, 2), "documents")])
def test_an_array_of_another_shape_is_refused(reranker: Reranker, shape: tuple[int, ...], accepted: str) -> None:
    array = np.full(shape, "text")
    with pytest.raises(InputError) as caught:
        reranker.score(array) if accepted == "pairs" else reranker.rank(QUERY, array)
    assert caught.value.details["shape"] == list(shape)


def test_empty_arrays_are_empty_lists(reranker: Reranker) -> None:
    assert reranker.score(np.array([])).shape == (0,)
    assert reranker.rank(QUERY, np.array([])) == []


def test_columns_of_pandas_are_accepted(reranker: Reranker, scores: list[float]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PAIRS, columns=["query", "document"])
    assert reranker.rank(QUERY, frame["document"]) == reranker.rank(QUERY, DOCUMENTS)
    assert reranker.score(zip(frame["query"], frame["document"], strict=True)).tolist() == scores
    assert reranker.score(frame.to_numpy()).tolist() == scores
    assert reranker.score(pandas.Series(PAIRS)).tolist() == scores


def test_data_frames_of_pandas_are_refused(reranker: Reranker) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PAIRS, columns=["query", "document"])
    for columns in (["document"], ["query", "document"]):
        with pytest.raises(InputError, match="DataFrame"):
            reranker.rank(QUERY, frame[columns])
        with pytest.raises(InputError, match="DataFrame"):
            reranker.score(frame[columns])


@pytest.mark.parametrize(
    ("pair", "kinds"),
    [
        (None, "NoneType"),
        ("ab", "str"),
        (("one",), r"\(str\)"),
        (("a", "b", "c"), r"\(str, str, str\)"),
        (("a", None), r"\(str, NoneType\)"),
        ((b"a", "b"), r"\(bytes, str\)"),
        (np.array([1, 2]), r"\(int, int\)"),
        ({"query": "a", "document": "b"}, "dict"),
    ],
)
def test_a_pair_is_two_strings(pair: object, kinds: str) -> None:
    with pytest.raises(InputError, match=kinds) as caught:
        as_pair(pair, "pair 7", index=7)
    assert caught.value.details == {"index": 7}


@pytest.mark.parametrize("index", [0, 2])
def test_a_document_that_is_no_string_is_named_by_its_index(reranker: Reranker, index: int) -> None:
    documents: list[Any] = list(DOCUMENTS)
    documents[index] = None
    with pytest.raises(InputError, match=f"document {index} .*NoneType") as caught:
        reranker.rank(QUERY, documents)
    assert caught.value.details["index"] == index


def test_a_query_that_is_no_string_is_refused(reranker: Reranker) -> None:
    with pytest.raises(InputError, match="query .*NoneType"):
        reranker.rank(None, DOCUMENTS)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_named_by_its_position() -> None:
    with pytest.raises(InputError, match=r"\\ud800") as caught:
        check_text("ab\ud800", "document 3", index=3)
    assert caught.value.details == {"index": 3, "character": 2}


@pytest.mark.parametrize("text", ["", "\0", "Größe 北京", "\U0001f600", "e\u0301"])
def test_every_valid_text_is_kept_as_it_is(text: str) -> None:
    assert check_text(text, "a text") == text


@pytest.mark.parametrize("text", list(Texts))
def test_the_contents_of_a_subclass_of_str_count_and_not_how_it_prints(text: Texts, reranker: Reranker) -> None:
    assert check_text(text, "text") == text.value
    assert type(check_text(text, "text")) is str
    assert reranker.score([(text, text)]).tolist() == reranker.score([(text.value, text.value)]).tolist()
    assert reranker.rank("a", [text])[0].document == text.value

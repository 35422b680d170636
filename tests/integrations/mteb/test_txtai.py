"""txtai's Reranker and its applications."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from txtai import Embeddings
from txtai.pipeline import Reranker as Reranking

from modernrank import InputError, Reranker, TruncationWarning
from modernrank.integrations.search.txtai import ModernRankSimilarity
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"


@pytest.fixture(scope="module")
def similarity(model: Reranker) -> ModernRankSimilarity:
    return ModernRankSimilarity(model)


@pytest.fixture(scope="module")
def embeddings(documents: list[str]) -> Any:
    """An index of words: no model is downloaded."""
    index = Embeddings(keyword=True, content=True)
    index.index(documents)
    return index


@pytest.mark.parametrize("options", [{}, {"cache": True}])
def test_a_search_has_the_ranking(
    options: dict[str, bool], similarity: ModernRankSimilarity, embeddings: Any, model: Reranker
) -> None:
    if not options.keys() <= inspect.signature(Reranking).parameters.keys():
        pytest.skip("this version of txtai has no cache")
    found = embeddings.search("music", 30)
    expected = model.rank("music", [row["text"] for row in found], activation="model")

    ranked = Reranking(embeddings, similarity, **options)("music", limit=3)

    assert len(found) > 1
    assert [(row["text"], row["score"]) for row in ranked] == [(r.document, r.score) for r in expected[:3]]


def test_several_queries(similarity: ModernRankSimilarity, embeddings: Any, model: Reranker) -> None:
    queries = ["music", "charts", "xyzzy"]

    ranked = Reranking(embeddings, similarity)(queries, limit=1)
    scored = similarity(queries, ["a", "b"])

    assert [len(rows) for rows in ranked] == [1, 1, 0]
    assert scored == [similarity(query, ["a", "b"]) for query in queries]


def test_nothing_none_and_duplicates(similarity: ModernRankSimilarity) -> None:
    assert similarity(QUERY, []) == []
    score = dict(similarity(QUERY, [None, "a", "a", ""]))
    assert score[0] == score[3]
    assert score[1] == score[2]


def test_thousands_of_texts_and_many_callers(
    similarity: ModernRankSimilarity, model: Reranker, documents: list[str]
) -> None:
    texts = [f"{number} {documents[number % len(documents)]}" for number in range(3000)]
    queries = [QUERY, "draw charts"]
    with ThreadPoolExecutor(len(queries)) as threads:
        found = list(threads.map(lambda query: similarity(query, texts), queries))
    for query, scored in zip(queries, found, strict=True):
        assert scored == [(r.index, r.score) for r in model.rank(query, texts, activation="model")]


def test_cuts_are_reported_and_wrong_input_is_refused(
    similarity: ModernRankSimilarity, several_labels: Reranker
) -> None:
    with pytest.warns(TruncationWarning):
        similarity(QUERY, ["music " * 1000])
    with pytest.raises(InputError, match="int"):
        similarity(QUERY, [1])  # type: ignore[list-item]
    with pytest.raises(InputError, match="label"):
        ModernRankSimilarity(several_labels)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/search.md", "txtai")

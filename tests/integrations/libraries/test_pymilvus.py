"""pymilvus-model's rerank functions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from pymilvus.model.base import BaseRerankFunction

from modernrank import InputError, RankedDocument, Reranker, TruncationWarning
from modernrank.integrations.search.pymilvus import ModernRankRerankFunction
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"


@pytest.fixture(scope="module")
def function(model: Reranker) -> ModernRankRerankFunction:
    return ModernRankRerankFunction(model)


def test_it_has_the_ranking(
    function: ModernRankRerankFunction, documents: list[str], ranking: list[RankedDocument]
) -> None:
    assert isinstance(function, BaseRerankFunction)
    for top_k in (1, 3, None):
        assert [result.to_dict() for result in function(QUERY, documents, top_k)] == [
            {"text": result.document, "score": result.score, "index": result.index} for result in ranking[:top_k]
        ]
    assert len(function(QUERY, documents)) == 5


def test_nothing_none_and_duplicates(function: ModernRankRerankFunction) -> None:
    assert function(QUERY, []) == []
    results = function(QUERY, [None, "a", "a", ""])
    score = {result.index: result.score for result in results}
    assert score[0] == score[3]
    assert score[1] == score[2]
    assert {result.index: result.text for result in results}[0] is None


def test_thousands_of_documents_and_many_callers(
    function: ModernRankRerankFunction, model: Reranker, many: list[str]
) -> None:
    queries = [QUERY, "draw charts"]
    with ThreadPoolExecutor(len(queries)) as threads:
        found = list(threads.map(lambda query: function(query, many, None), queries))
    for query, results in zip(queries, found, strict=True):
        expected = model.rank(query, many, activation="model")
        assert [(result.index, result.score) for result in results] == [(r.index, r.score) for r in expected]


def test_cuts_are_reported_and_wrong_input_is_refused(
    function: ModernRankRerankFunction, several_labels: Reranker
) -> None:
    with pytest.warns(TruncationWarning):
        function(QUERY, ["music " * 1000])
    with pytest.raises(InputError, match="top_k"):
        function(QUERY, ["a"], 0)
    with pytest.raises(InputError, match="int"):
        function(QUERY, [1])  # type: ignore[list-item]
    with pytest.raises(InputError, match="label"):
        ModernRankRerankFunction(several_labels)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/search.md", "pymilvus-model")

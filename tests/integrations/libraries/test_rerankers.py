"""The library rerankers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rerankers import Document
from rerankers import Reranker as Ranker

from modernrank import InputError, RankedDocument, Reranker, TruncationWarning
from modernrank.integrations.search.rerankers import ModernRankRanker
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"


@pytest.fixture(scope="module")
def ranker(demo: Path) -> ModernRankRanker:
    found = Ranker(str(demo), model_type="ModernRankRanker", verbose=0, precision="fp32")
    assert isinstance(found, ModernRankRanker)
    return found


def test_it_has_the_ranking(ranker: ModernRankRanker, documents: list[str], logits: list[RankedDocument]) -> None:
    results = ranker.rank(QUERY, documents)

    assert results.has_scores
    assert [(result.doc_id, result.text, result.score) for result in results] == [
        (expected.index, expected.document, expected.score) for expected in logits
    ]
    assert [result.rank for result in results] == list(range(1, len(documents) + 1))
    assert results.top_k(2)[0].text == logits[0].document


def test_ids_and_metadata_stay(ranker: ModernRankRanker) -> None:
    texts, ids = ["draws charts", "a music player"], ["same", "same"]

    of_texts = ranker.rank(QUERY, texts, ids, [{"year": 1}, {"year": 2}])
    of_documents = ranker.rank(QUERY, [Document(text, doc_id=text, metadata={"text": text}) for text in texts])

    assert (of_texts[0].doc_id, of_texts[0].year, of_texts[1].year) == ("same", 2, 1)
    assert [result.doc_id for result in of_documents] == [result.metadata["text"] for result in of_documents]


def test_nothing_one_and_equal_texts(ranker: ModernRankRanker, model: Reranker) -> None:
    assert ranker.rank(QUERY, []).results == []
    assert ranker.rank(QUERY, "a music player")[0].score == ranker.score(QUERY, "a music player")
    assert ranker.score(QUERY, "a music player") == model.score([(QUERY, "a music player")])[0]
    assert [result.doc_id for result in ranker.rank(QUERY, ["a", "a"])] == [0, 1]


def test_thousands_of_documents_and_many_tasks(ranker: ModernRankRanker, model: Reranker, many: list[str]) -> None:
    async def main() -> list[float]:
        found = await asyncio.gather(*(ranker.rank_async(query, many) for query in (QUERY, "draw charts")))
        return [results.get_score_by_docid(2999) for results in found]

    assert asyncio.run(main()) == model.score([(QUERY, many[2999]), ("draw charts", many[2999])]).tolist()


def test_a_loaded_model_and_another_scale(model: Reranker, documents: list[str]) -> None:
    ranker = ModernRankRanker(model, activation="sigmoid", long_documents="chunk")
    long = "music " * 1000

    assert ranker.score(QUERY, documents[0]) == model.score([(QUERY, documents[0])], activation="sigmoid")[0]
    assert ranker.score(QUERY, long) == model.rank(QUERY, [long], activation="sigmoid", long_documents="chunk")[0].score


def test_cut_texts_are_reported(ranker: ModernRankRanker) -> None:
    with pytest.warns(TruncationWarning):
        ranker.rank(QUERY, ["music " * 1000])


def test_a_model_of_several_labels_is_refused(several_labels: Reranker) -> None:
    with pytest.raises(InputError, match="label"):
        ModernRankRanker(several_labels)
    with pytest.raises(InputError, match="threads"):
        ModernRankRanker(several_labels, threads=1)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/search.md", "rerankers")

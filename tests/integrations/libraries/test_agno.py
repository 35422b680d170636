"""Agno's knowledge bases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agno.knowledge.document import Document
from agno.knowledge.embedder import Embedder
from agno.knowledge.knowledge import Knowledge
from agno.vectordb.lancedb import LanceDb
from pydantic import ValidationError

from modernrank import AsyncReranker, RankedDocument, Reranker, TruncationWarning
from modernrank.integrations.agents.agno import ModernRankReranker
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"


class Lengths(Embedder):
    """Embeds by length: a real embedder of the database, and no model to download."""

    def get_embedding(self, text: str) -> list[float]:
        return [len(text) % 7 + 1.0, len(text) % 5 + 1.0, len(text) % 3 + 1.0, 1.0]

    def get_embedding_and_usage(self, text: str) -> tuple[list[float], dict[str, Any] | None]:
        return self.get_embedding(text), None


@pytest.fixture
def reranker(model: Reranker) -> ModernRankReranker:
    return ModernRankReranker(model=model)


def documents_of(texts: list[str]) -> list[Document]:
    return [Document(content=text, id="same", meta_data={"index": index}) for index, text in enumerate(texts)]


def places(ranked: list[Document]) -> list[tuple[int, float | None]]:
    return [(document.meta_data["index"], document.reranking_score) for document in ranked]


def test_it_has_the_ranking(reranker: ModernRankReranker, documents: list[str], ranking: list[RankedDocument]) -> None:
    found = documents_of(documents)

    assert places(reranker.rerank(QUERY, found)) == [(result.index, result.score) for result in ranking]
    assert all(document.reranking_score is None for document in found)


@pytest.mark.parametrize(("top_n", "limit", "most"), [(2, None, 2), (None, 3, 3), (2, 3, 2), (3, 2, 2)])
def test_it_returns_at_most_what_was_asked_for(
    top_n: int | None, limit: int | None, most: int, model: Reranker, documents: list[str]
) -> None:
    assert len(ModernRankReranker(model=model, top_n=top_n).rerank(QUERY, documents_of(documents), limit)) == most


def test_tasks_share_an_asynchronous_model(
    model: Reranker, documents: list[str], many: list[str], ranking: list[RankedDocument]
) -> None:
    async def main() -> list[list[Document]]:
        async with AsyncReranker(model) as shared:
            reranker = ModernRankReranker(model=shared)
            return await asyncio.gather(*(reranker.arerank(QUERY, documents_of(texts)) for texts in (documents, many)))

    few, thousands = asyncio.run(main())

    assert places(few) == [(result.index, result.score) for result in ranking]
    assert places(thousands) == [(r.index, r.score) for r in model.rank(QUERY, many, activation="model")]


def test_a_knowledge_base_has_the_ranking(
    reranker: ModernRankReranker, documents: list[str], ranking: list[RankedDocument], tmp_path: Any
) -> None:
    database = LanceDb(uri=str(tmp_path), table_name="packages", embedder=Lengths(dimensions=4))
    database.create()
    database.insert("hash", [Document(content=text, name=text, meta_data={}) for text in documents])
    knowledge = Knowledge(vector_db=database, reranker=reranker, max_results=3)

    for found in (knowledge.search(QUERY), asyncio.run(knowledge.asearch(QUERY))):
        assert [(document.content, document.reranking_score) for document in found] == [
            (result.document, result.score) for result in ranking[:3]
        ]


def test_nothing_none_and_duplicates(reranker: ModernRankReranker) -> None:
    assert reranker.rerank(QUERY, []) == []
    assert asyncio.run(reranker.arerank(QUERY, [])) == []
    score = dict(places(reranker.rerank(QUERY, documents_of([None, "a", "a", ""]))))  # type: ignore[list-item]
    assert score[0] == score[3]
    assert score[1] == score[2]


def test_cuts_are_reported_and_wrong_input_is_refused(
    reranker: ModernRankReranker, model: Reranker, several_labels: Reranker
) -> None:
    with pytest.warns(TruncationWarning):
        reranker.rerank(QUERY, documents_of(["music " * 1000]))
    with pytest.raises((ValidationError, ValueError), match="top_n"):
        ModernRankReranker(model=model, top_n=0)
    with pytest.raises(ValueError, match="label"):
        ModernRankReranker(model=several_labels)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/agents.md", "Agno")

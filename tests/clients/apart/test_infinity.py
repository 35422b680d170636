"""Infinity's client, and what LangChain and Agno make of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agno.knowledge.document import Document as AgnoDocument
from agno.knowledge.reranker.infinity import InfinityReranker
from infinity_client import AuthenticatedClient, Client
from infinity_client.api.default import health, rerank
from infinity_client.errors import UnexpectedStatus
from infinity_client.models import RerankInput
from langchain_community.document_compressors.infinity_rerank import InfinityRerank
from langchain_core.documents import Document

from support.client_server import Server, check_places, numbered
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def places(answer: Any) -> Places:
    return [(result.index, result.relevance_score) for result in answer.results]


def body(**fields: Any) -> RerankInput:
    return RerankInput.from_dict({"query": QUERY, "documents": DOCUMENTS, "model": "m", **fields})


@pytest.mark.parametrize("path", ["", "/infinity"])
@pytest.mark.parametrize("fields", [{}, {"top_n": 2}, {"raw_scores": True}])
def test_it_has_the_ranking(path: str, fields: dict[str, Any], server: Server, ranking: Places, logits: Places) -> None:
    client = Client(base_url=server.url + path)
    expected = (logits if "raw_scores" in fields else ranking)[: fields.get("top_n")]

    answer = rerank.sync(client=client, body=body(**fields))
    check_places(places(answer), expected)
    assert answer.usage.total_tokens > 0
    check_places(places(asyncio.run(rerank.asyncio(client=client, body=body(**fields)))), expected)


def test_its_own_path_returns_documents_as_strings(server: Server, ranking: Places) -> None:
    client = Client(base_url=f"{server.url}/infinity")

    answer = rerank.sync(client=client, body=body(return_documents=True))

    assert [result.document for result in answer.results] == [DOCUMENTS[index] for index, _ in ranking]


def test_it_sees_a_healthy_server(server: Server) -> None:
    assert health.sync_detailed(client=Client(base_url=server.url)).status_code == 200


def test_it_reports_refusals(guarded: Server) -> None:
    for key, documents, status in [("wrong", DOCUMENTS, 401), (guarded.key, DOCUMENTS * 2, 413)]:
        client = AuthenticatedClient(base_url=guarded.url, token=key, raise_on_unexpected_status=True)
        with pytest.raises(UnexpectedStatus) as refused:
            rerank.sync(client=client, body=body(documents=documents))
        assert refused.value.status_code == status


@pytest.mark.parametrize("top_n", [None, 2])
def test_langchain_has_the_ranking(top_n: int | None, server: Server, ranking: Places) -> None:
    compressor = InfinityRerank(client=Client(base_url=server.url), model="m", top_n=top_n)
    documents = [Document(page_content=text) for text in DOCUMENTS]

    ranked = compressor.compress_documents(documents, QUERY)

    found = [(document.page_content, document.metadata["relevance_score"]) for document in ranked]
    check_places(numbered(found), ranking[:top_n])


@pytest.mark.parametrize("top_n", [None, 2])
def test_agno_has_the_ranking(top_n: int | None, guarded: Server, ranking: Places) -> None:
    def ranker() -> InfinityReranker:
        return InfinityReranker(url=guarded.url, api_key=guarded.key, model="m", top_n=top_n)

    def documents() -> list[AgnoDocument]:
        return [AgnoDocument(content=text) for text in DOCUMENTS]

    for ranked in (ranker().rerank(QUERY, documents()), asyncio.run(ranker().arerank(QUERY, documents()))):
        found = [(document.content, document.reranking_score) for document in ranked]
        check_places(numbered(found), ranking[:top_n])

"""Clients of text-embeddings-inference: pymilvus and tei-client. LlamaIndex and Haystack have files of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymilvus.model.reranker.tei import TEIRerankFunction
from tei_client import HttpClient, ModelType

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def test_pymilvus_has_the_ranking(server: Server, ranking: Places) -> None:
    results = TEIRerankFunction(server.url)(QUERY, DOCUMENTS)

    check_places([(result.index, result.score) for result in results], ranking)
    assert [result.text for result in results] == [DOCUMENTS[index] for index, _ in ranking]


def test_pymilvus_reports_a_refusal(guarded: Server) -> None:
    with pytest.raises(RuntimeError, match="key"):  # it sends none
        TEIRerankFunction(guarded.url)(QUERY, DOCUMENTS)


@pytest.mark.parametrize("fields", [{}, {"return_text": True}, {"raw_scores": True}, {"truncate": True}])
def test_tei_client_has_the_ranking(fields: dict[str, Any], server: Server, ranking: Places, logits: Places) -> None:
    client = HttpClient(server.url)

    for ranks in (
        client.rerank(QUERY, DOCUMENTS, **fields).ranks,
        asyncio.run(HttpClient(server.url).async_rerank(QUERY, DOCUMENTS, **fields)).ranks,
    ):
        check_places([(rank.index, rank.score) for rank in ranks], logits if "raw_scores" in fields else ranking)
        texts = [DOCUMENTS[rank.index] if "return_text" in fields else None for rank in ranks]
        assert [rank.text for rank in ranks] == texts


def test_tei_client_reads_what_the_server_is(server: Server) -> None:
    info = HttpClient(server.url).info()

    assert info.server_model_type is ModelType.Reranker
    assert info.max_client_batch_size == 1000

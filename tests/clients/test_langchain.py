"""LangChain's document compressors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import cohere
import httpx
import pytest
import voyageai
from langchain_cohere import CohereRerank
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_nvidia_ai_endpoints import NVIDIARerank
from langchain_reranker.rerankers import HttpReranker, init_reranker
from langchain_voyageai import VoyageAIRerank

from support.client_server import Server, check_places, numbered
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def of_cohere(server: Server, top: int | None, key: str = "any") -> CohereRerank:
    return CohereRerank(base_url=server.url, cohere_api_key=key, model="m", top_n=top)


def of_voyage(server: Server, top: int | None, key: str = "any") -> VoyageAIRerank:
    return VoyageAIRerank(base_url=f"{server.url}/v1", api_key=key, model="m", top_k=top)


def of_nvidia(server: Server, top: int | None, key: str = "any") -> NVIDIARerank:
    return NVIDIARerank(
        base_url=f"{server.url}/v1", api_key=key, model="tiny", top_n=top or 100, usage_telemetry_enabled=False
    )


def of_any(server: Server, top: int | None, key: str = "any") -> HttpReranker:
    made: HttpReranker = init_reranker("custom:m", base_url=f"{server.url}/v1", api_key=key, top_n=top)
    return made


MAKERS = [of_cohere, of_voyage, of_nvidia, of_any]


def documents(texts: Sequence[str] = DOCUMENTS) -> list[Document]:
    return [Document(page_content=text, metadata={"source": "test"}) for text in texts]


def places(ranked: Sequence[Document]) -> Places:
    assert all(document.metadata["source"] == "test" for document in ranked)
    return numbered([(document.page_content, document.metadata["relevance_score"]) for document in ranked])


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("top", [None, 2])
def test_a_compressor_has_the_ranking(
    make: Any, top: int | None, server: Server, ranking: Places, logits: Places
) -> None:
    expected = logits if make is of_nvidia else ranking
    compressor: BaseDocumentCompressor = make(server, top)

    check_places(places(compressor.compress_documents(documents(), QUERY)), expected[:top])
    check_places(places(asyncio.run(compressor.acompress_documents(documents(), QUERY))), expected[:top])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (of_cohere, cohere.UnauthorizedError),
        (of_voyage, voyageai.error.AuthenticationError),
        (of_nvidia, Exception),  # it has no type of its own for this
        (of_any, httpx.HTTPStatusError),
    ],
)
def test_a_wrong_key_is_refused(make: Any, error: type[Exception], guarded: Server) -> None:
    with pytest.raises(error, match="401|key"):
        make(guarded, None, "wrong").compress_documents(documents(), QUERY)


def test_nvidia_finds_the_model_itself(server: Server, logits: Places) -> None:
    with pytest.warns(UserWarning, match="tiny"):
        compressor = NVIDIARerank(base_url=f"{server.url}/v1", usage_telemetry_enabled=False)

    assert compressor.model == "tiny"
    check_places(places(compressor.compress_documents(documents(), QUERY)), logits)

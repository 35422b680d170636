"""Haystack's rankers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker, TruncationDirection
from haystack_integrations.components.rankers.jina import JinaRanker
from haystack_integrations.components.rankers.nvidia import NvidiaRanker

from support.client_server import Server, check_places, numbered
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def of_tei(server: Server, key: str = "any") -> HuggingFaceTEIRanker:
    return HuggingFaceTEIRanker(url=server.url, token=Secret.from_token(key))


def of_jina(server: Server, key: str = "any") -> JinaRanker:
    return JinaRanker(base_url=f"{server.url}/v1/rerank", api_key=Secret.from_token(key))


def of_nvidia(server: Server, key: str = "any") -> NvidiaRanker:
    ranker = NvidiaRanker(model="tiny", api_url=server.url, api_key=Secret.from_token(key))
    ranker.warm_up()
    return ranker


def documents(texts: list[str] = DOCUMENTS) -> list[Document]:
    return [Document(content=text) for text in texts]


def places(answer: Any) -> Places:
    return numbered([(document.content, document.score) for document in answer["documents"]])


@pytest.mark.parametrize("make", [of_tei, of_jina, of_nvidia])
@pytest.mark.parametrize("top_k", [2, 100])
def test_a_ranker_has_the_ranking(make: Any, top_k: int, server: Server, ranking: Places, logits: Places) -> None:
    expected = logits if make is of_nvidia else ranking

    check_places(places(make(server).run(query=QUERY, documents=documents(), top_k=top_k)), expected[:top_k])


@pytest.mark.parametrize("make", [of_tei, of_jina])
def test_a_ranker_has_the_ranking_in_a_coroutine(make: Any, server: Server, ranking: Places) -> None:
    answer = asyncio.run(make(server).run_async(query=QUERY, documents=documents(), top_k=3))

    check_places(places(answer), ranking[:3])


def test_tei_gives_raw_scores_and_cuts_on_a_side(server: Server, logits: Places) -> None:
    ranker = HuggingFaceTEIRanker(url=server.url, token=None, raw_scores=True)

    answer = ranker.run(query=QUERY, documents=documents(), truncation_direction=TruncationDirection.LEFT)

    check_places(places(answer), logits)


@pytest.mark.parametrize(("make", "error"), [(of_tei, RuntimeError), (of_jina, RuntimeError), (of_nvidia, ValueError)])
def test_refusals_are_errors(make: Any, error: type[Exception], guarded: Server) -> None:
    with pytest.raises(error, match="key"):
        make(guarded, "wrong").run(query=QUERY, documents=documents())
    many = documents([f"{text} {number}" for text in DOCUMENTS for number in range(2)])
    with pytest.raises(error, match="max_documents"):
        make(guarded, guarded.key).run(query=QUERY, documents=many)

"""Haystack's ranker for Cohere, with version 7 of the SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import cohere
import pytest
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.cohere import CohereRanker

from support.client_server import Server, check_places, numbered
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def ranker(server: Server, key: str = "any") -> CohereRanker:
    return CohereRanker(model="m", api_base_url=server.url, api_key=Secret.from_token(key))


def places(answer: Any) -> Places:
    return numbered([(document.content, document.score) for document in answer["documents"]])


@pytest.mark.parametrize("top_k", [2, 100])
def test_it_has_the_ranking(top_k: int, server: Server, ranking: Places) -> None:
    arguments = {"query": QUERY, "documents": [Document(content=text) for text in DOCUMENTS], "top_k": top_k}

    check_places(places(ranker(server).run(**arguments)), ranking[:top_k])
    check_places(places(asyncio.run(ranker(server).run_async(**arguments))), ranking[:top_k])


def test_a_wrong_key_is_an_error_of_the_sdk(guarded: Server) -> None:
    with pytest.raises(cohere.UnauthorizedError):
        ranker(guarded, "wrong").run(query=QUERY, documents=[Document(content="a")])

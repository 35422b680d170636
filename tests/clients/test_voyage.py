"""Voyage's SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import voyageai

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def ask(client: type[Any], server: Server, path: str = "/v1", key: str = "any", **fields: Any) -> Any:
    """A call of a client, whether it is for coroutines or not."""
    arguments = {"query": QUERY, "documents": DOCUMENTS, "model": "m", **fields}
    called = client(api_key=key, base_url=server.url + path).rerank(**arguments)
    return asyncio.run(called) if asyncio.iscoroutine(called) else called


@pytest.fixture(params=[voyageai.Client, voyageai.AsyncClient])
def client(request: pytest.FixtureRequest) -> type[Any]:
    chosen: type[Any] = request.param
    return chosen


@pytest.mark.parametrize("path", ["/v1", "/voyage/v1"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_it_has_the_ranking(client: type[Any], path: str, top_k: int | None, server: Server, ranking: Places) -> None:
    response = ask(client, server, path, top_k=top_k)

    check_places([(result.index, result.relevance_score) for result in response.results], ranking[:top_k])
    assert [result.document for result in response.results] == [DOCUMENTS[index] for index, _ in ranking[:top_k]]
    assert response.total_tokens > 0


def test_refusals_are_its_own_errors(client: type[Any], guarded: Server) -> None:
    with pytest.raises(voyageai.error.AuthenticationError):
        ask(client, guarded, key="wrong")
    with pytest.raises(voyageai.error.MalformedRequestError):
        ask(client, guarded, key=guarded.key, top_k=-1)
    with pytest.raises(voyageai.error.MalformedRequestError, match="max_length"):
        ask(client, guarded, key=guarded.key, documents=["word " * 10_000], truncation=False)
    with pytest.raises(voyageai.error.APIError, match="max_documents") as refused:
        ask(client, guarded, key=guarded.key, documents=DOCUMENTS * 2)
    assert refused.value.http_status == 413

"""Cohere's SDK, in each of its major versions."""

from __future__ import annotations

import asyncio
from typing import Any

import cohere
import pytest

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients
COUNT = len(DOCUMENTS)


def places(response: Any) -> Places:
    return [(result.index, result.relevance_score) for result in response.results]


def ask(client: type[Any], server: Server, key: str = "any", documents: list[Any] = DOCUMENTS, **fields: Any) -> Any:
    """A call of a client, whether it is for coroutines or not."""
    called = client(key, base_url=server.url).rerank(model="m", query=QUERY, documents=documents, **fields)
    return asyncio.run(called) if asyncio.iscoroutine(called) else called


@pytest.fixture(params=["ClientV2", "AsyncClientV2", "Client", "AsyncClient"])
def client(request: pytest.FixtureRequest) -> type[Any]:
    chosen: type[Any] = getattr(cohere, request.param)
    return chosen


@pytest.mark.parametrize("top_n", [None, 1, 2, COUNT, 100])
def test_it_has_the_ranking(client: type[Any], top_n: int | None, server: Server, ranking: Places) -> None:
    response = ask(client, server, **({} if top_n is None else {"top_n": top_n}))

    check_places(places(response), ranking[:top_n])
    assert response.id
    assert response.meta.billed_units.search_units == 1
    assert response.meta.tokens.input_tokens > 0
    assert response.meta.warnings == []


def test_the_first_version_returns_documents(server: Server, ranking: Places) -> None:
    response = ask(cohere.Client, server, return_documents=True)

    assert [result.document.text for result in response.results] == [DOCUMENTS[index] for index, _ in ranking]


def test_the_first_version_ranks_by_fields(server: Server, ranking: Places) -> None:
    documents = [{"title": text, "id": str(index)} for index, text in enumerate(DOCUMENTS)]

    response = ask(cohere.Client, server, documents=documents, rank_fields=["title"], return_documents=True)

    check_places(places(response), ranking)
    assert [result.document.id for result in response.results] == [str(index) for index, _ in ranking]


def test_the_second_version_cuts_documents(server: Server) -> None:
    response = ask(cohere.ClientV2, server, max_tokens_per_doc=4)

    body = {"query": QUERY, "documents": DOCUMENTS, "max_tokens_per_doc": 4}
    expected = server.ask("/rerank", body)["results"]
    check_places(places(response), [(place["index"], place["relevance_score"]) for place in expected])
    assert len(response.meta.warnings) == 1


def test_a_key_is_checked(client: type[Any], guarded: Server, ranking: Places) -> None:
    check_places(places(ask(client, guarded, guarded.key)), ranking)
    with pytest.raises(cohere.UnauthorizedError):
        ask(client, guarded, "wrong")


def test_what_cannot_be_used_is_refused(client: type[Any], guarded: Server) -> None:
    with pytest.raises(cohere.UnprocessableEntityError):
        ask(client, guarded, guarded.key, top_n=-1)
    with pytest.raises(cohere.core.ApiError) as refused:
        ask(client, guarded, guarded.key, documents=DOCUMENTS * 2)
    assert refused.value.status_code == 413
    assert "max_documents" in refused.value.body["message"]

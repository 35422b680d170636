"""Xinference's client, which Dify uses too."""

from __future__ import annotations

import pytest
from xinference_client import RESTfulClient
from xinference_client.client.restful.restful_client import RESTfulRerankModelHandle

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("top_n", [None, 2])
def test_it_has_the_ranking(top_n: int | None, server: Server, ranking: Places) -> None:
    model = RESTfulClient(server.url).get_model("tiny")
    assert isinstance(model, RESTfulRerankModelHandle)

    results = model.rerank(DOCUMENTS, QUERY, top_n=top_n, return_documents=True, return_len=True)["results"]

    check_places([(result["index"], result["relevance_score"]) for result in results], ranking[:top_n])
    assert [result["document"]["text"] for result in results] == [DOCUMENTS[index] for index, _ in ranking[:top_n]]


def test_it_sends_its_key_where_one_is_demanded(guarded: Server, ranking: Places) -> None:
    model = RESTfulClient(guarded.url, api_key=guarded.key).get_model("tiny")

    results = model.rerank(DOCUMENTS, QUERY)["results"]

    check_places([(result["index"], result["relevance_score"]) for result in results], ranking)


def test_it_reports_refusals(guarded: Server) -> None:
    with pytest.raises(RuntimeError, match="key"):
        RESTfulClient(guarded.url, api_key="wrong").get_model("tiny")
    with pytest.raises(RuntimeError, match="max_documents"):
        RESTfulClient(guarded.url, api_key=guarded.key).get_model("tiny").rerank(DOCUMENTS * 2, QUERY)

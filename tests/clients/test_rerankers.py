"""The library `rerankers`, which has a form for each service."""

from __future__ import annotations

import pytest
from rerankers.models.api_rankers import APIRanker

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("cohere", "/v1/rerank"),
        ("cohere", "/v2/rerank"),
        ("jina", "/v1/rerank"),
        ("voyage", "/v1/rerank"),
        ("text-embeddings-inference", "/rerank"),
    ],
)
def test_it_has_the_ranking(provider: str, path: str, guarded: Server, ranking: Places) -> None:
    reranker = APIRanker("m", guarded.key, provider, url=guarded.url + path)

    results = reranker.rank(QUERY, DOCUMENTS).results

    check_places([(result.document.doc_id, result.score) for result in results], ranking)

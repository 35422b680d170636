"""What Cohere's SDK has since version 7: the parts of documents that match."""

from __future__ import annotations

import asyncio
from typing import Any

import cohere
import pytest

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients

# Longer than a part, with characters beyond 16 bits between them.
LONG = [" 🎼 ".join(f"{text} {number}" for number in range(30)) for text in DOCUMENTS]


@pytest.mark.parametrize("kind", ["ClientV2", "AsyncClientV2"])
@pytest.mark.parametrize("maximum", [1, 3])
def test_spans_are_the_best_parts_of_each_document(kind: str, maximum: int, server: Server) -> None:
    spans = cohere.RerankRelevantSpans(mode="enabled", threshold=0.2, max_spans=maximum)
    called = getattr(cohere, kind)("any", base_url=server.url).rerank(
        model="m", query=QUERY, documents=LONG, top_n=2, relevant_spans=spans, priority=3
    )
    results: list[Any] = (asyncio.run(called) if asyncio.iscoroutine(called) else called).results

    check_places([(result.index, result.relevance_score) for result in results], server.ranking(LONG)[:2])
    for result in results:
        found = result.relevant_spans
        assert 1 <= len(found) <= maximum
        assert [span.score for span in found] == sorted((span.score for span in found), reverse=True)
        for span in found:
            part = LONG[result.index][span.start : span.end]  # in code points: each emoji is one
            assert part and part == part.strip()
            assert span.end <= len(LONG[result.index])
            assert span.score >= 0.2


def test_the_span_of_a_short_document_is_all_of_it(server: Server, ranking: Places) -> None:
    spans = cohere.RerankRelevantSpans(mode="enabled")

    results = cohere.ClientV2("any", base_url=server.url).rerank(
        model="m", query=QUERY, documents=DOCUMENTS, relevant_spans=spans
    )

    found = [span for result in results.results for span in result.relevant_spans]
    assert [(span.start, span.end) for span in found] == [(0, len(DOCUMENTS[index])) for index, _ in ranking]
    assert [span.score for span in found] == pytest.approx([score for _, score in ranking], abs=1e-6)


def test_there_are_no_spans_where_none_are_asked_for(server: Server) -> None:
    client = cohere.ClientV2("any", base_url=server.url)

    for fields in ({}, {"relevant_spans": cohere.RerankRelevantSpans(mode="disabled")}):
        results = client.rerank(model="m", query=QUERY, documents=DOCUMENTS, **fields).results
        assert [result.relevant_spans for result in results] == [None] * len(DOCUMENTS)


def test_a_threshold_that_nothing_reaches_leaves_no_span(server: Server) -> None:
    spans = cohere.RerankRelevantSpans(mode="enabled", threshold=0.9999)

    results = cohere.ClientV2("any", base_url=server.url).rerank(
        model="m", query=QUERY, documents=DOCUMENTS, relevant_spans=spans
    )

    assert [result.relevant_spans for result in results.results] == [[]] * len(DOCUMENTS)

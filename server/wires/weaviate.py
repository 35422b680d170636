"""The wire of Weaviate's reranker-transformers: scores in the order of the documents."""

from __future__ import annotations

import msgspec

from .base import DetailError, RankCall, Ranking, Wire, detail_error


class RerankRequest(msgspec.Struct):
    """``property`` is always sent, and mostly empty."""

    query: str
    documents: list[str]
    property: str | None = None


class DocumentScore(msgspec.Struct):
    """A document with its score."""

    document: str
    score: float


class RerankResponse(msgspec.Struct):
    """Matched by position."""

    query: str
    scores: list[DocumentScore]


def read(request: RerankRequest) -> RankCall:
    """All documents."""
    return RankCall(request.query, request.documents)


def answer(request: RerankRequest, ranking: Ranking) -> RerankResponse:
    """In the order of the request."""
    scores = [
        DocumentScore(place.document, place.score) for place in sorted(ranking.documents, key=lambda place: place.index)
    ]
    return RerankResponse(request.query, scores)


WEAVIATE = Wire("weaviate", RerankRequest, RerankResponse, read, answer, detail_error, DetailError)

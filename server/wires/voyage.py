"""Voyage's wire: ``top_k`` and ``truncation`` in, ``data`` out."""

from __future__ import annotations

import msgspec

from modernrank import TextLimits

from .base import DetailError, RankCall, Ranking, Wire, detail_error, top_n_of


class RerankRequest(msgspec.Struct):
    """``truncation`` false refuses what is too long."""

    query: str
    documents: list[str]
    model: str | None = None
    top_k: int | None = None
    truncation: bool | None = None
    return_documents: bool | None = None


class Result(msgspec.Struct, omit_defaults=True):
    """A document in the answer."""

    index: int
    relevance_score: float
    document: str | None = None


class Usage(msgspec.Struct):
    """Tokens of all pairs that were scored."""

    total_tokens: int


class RerankResponse(msgspec.Struct):
    """The documents, best first."""

    object: str
    data: list[Result]
    model: str
    usage: Usage


def read(request: RerankRequest) -> RankCall:
    """Long documents are cut, as Voyage does it, or refused."""
    return RankCall(
        request.query,
        request.documents,
        request.model,
        top_n_of(request.top_k, "top_k"),
        limits=TextLimits(truncation="error" if request.truncation is False else None),
        long_documents="truncate",
    )


def answer(request: RerankRequest, ranking: Ranking) -> RerankResponse:
    """The documents themselves only if the request asks for them."""
    data = [
        Result(place.index, place.score, place.document if request.return_documents else None)
        for place in ranking.documents
    ]
    return RerankResponse("list", data, ranking.facts.model, Usage(ranking.facts.report.tokens))


VOYAGE = Wire("voyage", RerankRequest, RerankResponse, read, answer, detail_error, DetailError)

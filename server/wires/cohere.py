"""Cohere's second version: ``/v2/rerank``, with the spans of documents that match."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from modernrank import TextLimits
from modernrank.errors import InputError

from .base import DetailError, RankCall, Ranking, SpanOptions, Wire, detail_error, limit_of, priority_of, top_n_of
from .documents import Document, returned, texts_of
from .jina import Meta, Usage, meta_of, usage_of

# Cohere's own default of `max_spans` is not documented.
MAX_SPANS = 3


class RelevantSpans(msgspec.Struct):
    """Which spans the answer shows."""

    mode: Literal["enabled", "disabled"] = "enabled"
    threshold: float | None = None
    max_spans: int | None = None


class RerankRequest(msgspec.Struct):
    """What Cohere's SDK sends, and two fields that clients of others send to the same path."""

    query: str
    documents: list[Document]
    model: str | None = None
    top_n: int | None = None
    max_tokens_per_doc: int | None = None
    relevant_spans: RelevantSpans | None = None
    priority: int | None = None
    rank_fields: list[str] | None = None
    return_documents: bool | None = None


class Span(msgspec.Struct):
    """A part of a document: ``document[start:end]``, in code points."""

    start: int
    end: int
    score: float


class Result(msgspec.Struct, omit_defaults=True):
    """A document in the answer."""

    index: int
    relevance_score: float
    relevant_spans: list[Span] | None = None
    document: dict[str, Any] | None = None


class RerankResponse(msgspec.Struct):
    """The documents, best first. ``model`` and ``usage`` are for vLLM's clients."""

    id: str
    model: str
    results: list[Result]
    meta: Meta
    usage: Usage


def read(request: RerankRequest) -> RankCall:
    """Long documents count by their best part."""
    return RankCall(
        request.query,
        texts_of(request.documents, request.rank_fields),
        request.model,
        top_n_of(request.top_n),
        limits=TextLimits(max_document_tokens=limit_of(request.max_tokens_per_doc, "max_tokens_per_doc")),
        spans=_spans(request.relevant_spans),
        priority=priority_of(request.priority),
    )


def _spans(asked: RelevantSpans | None) -> SpanOptions | None:
    if asked is None or asked.mode == "disabled":
        return None
    if asked.threshold is not None and not math.isfinite(asked.threshold):
        raise InputError("relevant_spans.threshold is not a number", argument="threshold")
    return SpanOptions(asked.threshold or 0.0, top_n_of(asked.max_spans, "max_spans") or MAX_SPANS)


def answer(request: RerankRequest, ranking: Ranking) -> RerankResponse:
    """The spans of each document, the best first, where the request asks for them."""
    results = []
    for place in ranking.documents:
        result = Result(place.index, place.score)
        if place.index in ranking.spans:
            result.relevant_spans = [Span(p.start, p.end, p.score) for p in ranking.spans[place.index]]
        if request.return_documents:
            result.document = returned(request.documents[place.index], place.document)
        results.append(result)
    facts = ranking.facts
    return RerankResponse(facts.request_id, facts.model, results, meta_of(ranking, "2"), usage_of(ranking))


COHERE = Wire("cohere", RerankRequest, RerankResponse, read, answer, detail_error, DetailError)

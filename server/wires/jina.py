"""The wire of Jina, Cohere v1, vLLM, Infinity, LocalAI and Xinference: ``documents`` in, ``results`` out.

They differ in fields that others ignore, so one answer serves them all. Clients of Infinity want a document back as a
string: ``INFINITY`` does that.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from modernrank import TextLimits
from modernrank.options import SideChoice

from .base import DetailError, Outcome, RankCall, Ranking, Wire, detail_error, limit_of, priority_of, top_n_of
from .documents import Document, returned, texts_of


class Limited(Protocol):
    """A request with vLLM's limits of tokens."""

    truncate_prompt_tokens: int | None
    truncation_side: SideChoice | None
    max_tokens_per_query: int | None
    max_tokens_per_doc: int | None


class RerankRequest(msgspec.Struct):
    """What clients send; fields that are not here are ignored."""

    query: str
    documents: list[Document]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    raw_scores: bool | None = None  # Infinity
    use_activation: bool | None = None  # vLLM
    truncate_prompt_tokens: int | None = None
    truncation_side: SideChoice | None = None
    max_tokens_per_query: int | None = None
    max_tokens_per_doc: int | None = None
    priority: int | None = None


class Result(msgspec.Struct, omit_defaults=True):
    """A document in the answer."""

    index: int
    relevance_score: float
    document: dict[str, Any] | str | None = None


class Usage(msgspec.Struct):
    """Tokens of all pairs that were scored, special tokens included; clients for Together AI require the third."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class Version(msgspec.Struct):
    """Of the API."""

    version: str


class BilledUnits(msgspec.Struct):
    """Nothing is billed; clients count these."""

    search_units: int
    total_tokens: int


class Tokens(msgspec.Struct):
    """Tokens that went in and came out."""

    input_tokens: int
    output_tokens: int


class Meta(msgspec.Struct):
    """Cohere's facts of a call."""

    api_version: Version
    billed_units: BilledUnits
    tokens: Tokens
    warnings: list[str]


class RerankResponse(msgspec.Struct):
    """The documents, best first. ``object`` is what Infinity's client demands; no other client reads it."""

    id: str
    object: Literal["rerank"]
    created: int
    model: str
    usage: Usage
    results: list[Result]
    meta: Meta


def read(request: RerankRequest) -> RankCall:
    """Probabilities, unless the request asks for logits."""
    raw = request.raw_scores is True or request.use_activation is False
    return RankCall(
        request.query,
        texts_of(request.documents, request.rank_fields),
        request.model,
        top_n_of(request.top_n),
        "logit" if raw else "sigmoid",
        limits_of(request),
        priority=priority_of(request.priority),
    )


def answer(request: RerankRequest, ranking: Ranking) -> RerankResponse:
    """The documents themselves only if the request asks for them."""
    return _response(request, ranking, documents_as_text=False)


def limits_of(request: Limited) -> TextLimits:
    """The limits of vLLM's names."""
    return TextLimits(
        max_length=limit_of(request.truncate_prompt_tokens, "truncate_prompt_tokens"),
        truncation_side=request.truncation_side,
        max_query_tokens=limit_of(request.max_tokens_per_query, "max_tokens_per_query"),
        max_document_tokens=limit_of(request.max_tokens_per_doc, "max_tokens_per_doc"),
    )


def usage_of(outcome: Outcome) -> Usage:
    """All tokens are those of the prompt."""
    tokens = outcome.facts.report.tokens
    return Usage(tokens, tokens)


def meta_of(ranking: Ranking, version: str) -> Meta:
    """Cohere's facts."""
    tokens = ranking.facts.report.tokens
    return Meta(Version(version), BilledUnits(1, tokens), Tokens(tokens, 0), ranking.facts.warnings)


def _answer_with_text(request: RerankRequest, ranking: Ranking) -> RerankResponse:
    return _response(request, ranking, documents_as_text=True)


def _response(request: RerankRequest, ranking: Ranking, documents_as_text: bool) -> RerankResponse:
    results = [Result(place.index, place.score) for place in ranking.documents]
    if request.return_documents:
        for result, place in zip(results, ranking.documents, strict=True):
            document = request.documents[place.index]
            result.document = place.document if documents_as_text else returned(document, place.document)
    facts = ranking.facts
    usage = usage_of(ranking)
    meta = meta_of(ranking, "1")
    return RerankResponse(facts.request_id, "rerank", facts.created, facts.model, usage, results, meta)


JINA = Wire("jina", RerankRequest, RerankResponse, read, answer, detail_error, DetailError)
INFINITY = Wire("infinity", RerankRequest, RerankResponse, read, _answer_with_text, detail_error, DetailError)

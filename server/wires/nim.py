"""The wire of NVIDIA's NIM for reranking: ``/v1/ranking``, and the path of its catalogue; its answers are logits."""

from __future__ import annotations

from typing import Literal

import msgspec

from modernrank import TextLimits

from .base import DetailError, RankCall, Ranking, Wire, detail_error, top_n_of


class Passage(msgspec.Struct):
    """A query or a passage."""

    text: str


class RankingRequest(msgspec.Struct):
    """``truncate`` NONE refuses what is too long; END cuts it."""

    query: Passage
    passages: list[Passage]
    model: str | None = None
    truncate: Literal["NONE", "END"] | None = None
    top_n: int | None = None  # RAGFlow
    top_k: int | None = None  # LiteLLM


class Place(msgspec.Struct):
    """A passage in the answer."""

    index: int
    logit: float


class Usage(msgspec.Struct):
    """Tokens of all pairs that were scored."""

    prompt_tokens: int
    total_tokens: int


class RankingResponse(msgspec.Struct):
    """The passages, best first."""

    rankings: list[Place]
    usage: Usage


def read(request: RankingRequest) -> RankCall:
    """Logits."""
    return RankCall(
        request.query.text,
        [passage.text for passage in request.passages],
        request.model,
        top_n_of(request.top_n) or top_n_of(request.top_k, "top_k"),
        activation="logit",
        limits=TextLimits(truncation="error" if request.truncate == "NONE" else None),
        long_documents="truncate",
    )


def answer(request: RankingRequest, ranking: Ranking) -> RankingResponse:
    """All passages, best first."""
    tokens = ranking.facts.report.tokens
    return RankingResponse([Place(place.index, place.score) for place in ranking.documents], Usage(tokens, tokens))


NIM = Wire("nim", RankingRequest, RankingResponse, read, answer, detail_error, DetailError)

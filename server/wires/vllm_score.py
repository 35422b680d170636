"""vLLM's ``/score``: one query and several documents, or as many queries as documents, scored in their order."""

from __future__ import annotations

import msgspec

from modernrank.errors import InputError
from modernrank.options import SideChoice

from .base import DetailError, PairCall, PairScores, Wire, detail_error, priority_of
from .documents import Document, texts_of
from .jina import Usage, limits_of, usage_of

Texts = Document | list[Document]


class ScoreRequest(msgspec.Struct):
    """The queries and the documents, each under one of the names that vLLM takes."""

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    items: Texts | None = None
    model: str | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: SideChoice | None = None
    max_tokens_per_query: int | None = None
    max_tokens_per_doc: int | None = None
    priority: int | None = None


class Score(msgspec.Struct):
    """The score of a pair."""

    index: int
    object: str
    score: float


class ScoreResponse(msgspec.Struct):
    """The scores in the order of the pairs."""

    id: str
    object: str
    created: int
    model: str
    data: list[Score]
    usage: Usage


def read(request: ScoreRequest) -> PairCall:
    """Probabilities, unless the request switches the activation off."""
    first = _given(request, ("text_1", "queries", "data_1"))
    second = _given(request, ("text_2", "documents", "data_2", "items"))
    queries = first * len(second) if len(first) == 1 else first
    if len(queries) != len(second):
        raise InputError(
            f"there are {len(first)} queries and {len(second)} documents; send one query, or one for each document",
            argument="text_1",
        )
    return PairCall(
        list(zip(queries, second, strict=True)),
        request.model,
        "logit" if request.use_activation is False else None,
        limits_of(request),
        priority_of(request.priority),
        of_one_label=True,
    )


def _given(request: ScoreRequest, names: tuple[str, ...]) -> list[str]:
    given = [name for name in names if getattr(request, name) is not None]
    if len(given) != 1:
        sent = "none of them" if not given else " and ".join(given)
        raise InputError(f"send one of {', '.join(names)}; the request has {sent}", argument=names[0])
    value = getattr(request, given[0])
    return texts_of(value if isinstance(value, list) else [value])


def answer(request: ScoreRequest, result: PairScores) -> ScoreResponse:
    """The score of each pair."""
    facts = result.facts
    data = [Score(index, "score", score) for index, (score,) in enumerate(result.scores.tolist())]
    return ScoreResponse(facts.request_id, "list", facts.created, facts.model, data, usage_of(result))


SCORE = Wire("vllm score", ScoreRequest, ScoreResponse, read, answer, detail_error, DetailError)

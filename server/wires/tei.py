"""The wire of text-embeddings-inference: ``/rerank`` with ``texts``, ``/predict``, and ``/info``."""

from __future__ import annotations

from typing import Literal

import msgspec

from modernrank import TextLimits
from modernrank.errors import InputError, counted
from modernrank.options import SideChoice
from modernrank.text.checks import Pair

from .base import PairCall, PairScores, Problem, RankCall, Ranking, Wire, top_n_of

Direction = Literal["left", "right", "Left", "Right"]
# A text to be classified: a string, a list of one, or a pair.
Input = str | list[str]


class RerankRequest(msgspec.Struct):
    """``truncate`` false refuses what is too long; absent or true cuts it."""

    query: str
    texts: list[str]
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None
    top_n: int | None = None  # LiteLLM sends it


class Rank(msgspec.Struct, omit_defaults=True):
    """A text in the answer."""

    index: int
    score: float
    text: str | None = None


class PredictRequest(msgspec.Struct):
    """``inputs``: one pair of texts, or a list of pairs."""

    inputs: str | list[Input]
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    raw_scores: bool | None = None


class Prediction(msgspec.Struct):
    """A label and its score."""

    score: float
    label: str


class TeiError(msgspec.Struct):
    """A refusal."""

    error: str
    error_type: str


def problem(found: Problem) -> TeiError:
    """With the words for kinds of errors that the original uses."""
    kinds = {401: "Unauthorized", 429: "Overloaded", 503: "Unhealthy", 500: "Backend", 408: "Timeout"}
    return TeiError(found.message, kinds.get(found.status, "Validation"))


def _limits(truncate: bool | None, direction: Direction | None) -> TextLimits:
    side: SideChoice | None = None
    if direction is not None:
        side = "left" if direction.lower() == "left" else "right"
    return TextLimits(truncation="error" if truncate is False else None, truncation_side=side)


def read_rerank(request: RerankRequest) -> RankCall:
    """Probabilities, unless the request asks for raw scores."""
    if not request.texts:
        raise InputError("`texts` cannot be empty; send at least one text", argument="texts")
    return RankCall(
        request.query,
        request.texts,
        top_n=top_n_of(request.top_n),
        activation="logit" if request.raw_scores else "sigmoid",
        limits=_limits(request.truncate, request.truncation_direction),
        long_documents="truncate",
    )


def answer_rerank(request: RerankRequest, ranking: Ranking) -> list[Rank]:
    """All texts, best first; the texts themselves only if the request asks for them."""
    return [
        Rank(place.index, place.score, place.document if request.return_text else None) for place in ranking.documents
    ]


def read_predict(request: PredictRequest) -> PairCall:
    """A pair, or several."""
    return PairCall(
        [_pair(item, index) for index, item in enumerate(_items(request.inputs))],
        activation="logit" if request.raw_scores else None,
        limits=_limits(request.truncate, request.truncation_direction),
    )


def answer_predict(request: PredictRequest, result: PairScores) -> list[Prediction] | list[list[Prediction]]:
    """The labels of each pair, best first; of a single pair, its labels alone."""
    predictions = [
        sorted(
            (Prediction(score, label) for score, label in zip(scores, result.labels, strict=True)),
            key=lambda prediction: -prediction.score,
        )
        for scores in result.scores.tolist()
    ]
    return predictions[0] if _is_single(request.inputs) else predictions


def _is_single(inputs: str | list[Input]) -> bool:
    """A single pair is a list of two strings; a list of lists is a batch."""
    return isinstance(inputs, str) or all(isinstance(item, str) for item in inputs)


def _items(inputs: str | list[Input]) -> list[Input]:
    if not inputs:
        raise InputError("`inputs` cannot be empty; send a pair of texts", argument="inputs")
    if isinstance(inputs, str):
        return [inputs]
    return [[item for item in inputs if isinstance(item, str)]] if _is_single(inputs) else inputs


def _pair(item: Input, index: int) -> Pair:
    if isinstance(item, str) or len(item) != 2:
        count = 1 if isinstance(item, str) else len(item)
        raise InputError(
            f"input {index} is {counted(count, 'text')}, and this model scores pairs; send [query, text]",
            index=index,
        )
    return item[0], item[1]


RERANK = Wire("tei", RerankRequest, list[Rank], read_rerank, answer_rerank, problem, TeiError)
PREDICT = Wire(
    "tei predict",
    PredictRequest,
    list[Prediction | list[Prediction]],
    read_predict,
    answer_predict,
    problem,
    TeiError,
)

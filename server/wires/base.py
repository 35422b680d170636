"""What a wire is: it turns a client's body into a neutral call, and the result of the call into the client's answer.

body ──Wire.read──▶ RankCall or PairCall ──carry_out──▶ Ranking or PairScores ──Wire.answer──▶ answer
                                                                             └─Wire.problem─▶ error in its own form
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from modernrank import ActivationChoice, CallReport, LongDocuments, RankedDocument, TextLimits
from modernrank.arrays import FloatArray
from modernrank.errors import InputError
from modernrank.queue.urgency import MAX_PRIORITY
from modernrank.text.checks import Pair


@dataclass(frozen=True)
class SpanOptions:
    """Which parts of each document an answer shows: those that score above ``threshold``, the best ``maximum``."""

    threshold: float = 0.0
    maximum: int | None = None


@dataclass(frozen=True)
class RankCall:
    """Documents to be ranked for a query.

    query, documents: their texts.
    model:          the name that the client gave, or None.
    top_n:          number of documents in the answer; None for all.
    activation:     scale of the scores.
    limits:         what is kept of the texts.
    long_documents: what happens to a document beyond the model's limit; None for the server's setting.
    spans:          which parts the answer shows; None for none.
    priority:       0 to 999, the lowest first.
    """

    query: str
    documents: Sequence[str]
    model: str | None = None
    top_n: int | None = None
    activation: ActivationChoice = "sigmoid"
    limits: TextLimits = field(default_factory=TextLimits)
    long_documents: LongDocuments | None = None
    spans: SpanOptions | None = None
    priority: int = 0


@dataclass(frozen=True)
class PairCall:
    """Pairs to be scored, each for itself; otherwise as in ``RankCall``.

    ``activation`` None stands for probabilities: a sigmoid for one label, a softmax over several. ``of_one_label``:
    whether the wire has room for one score only.
    """

    pairs: Sequence[Pair]
    model: str | None = None
    activation: ActivationChoice | None = None
    limits: TextLimits = field(default_factory=TextLimits)
    priority: int = 0
    of_one_label: bool = False


@dataclass(frozen=True)
class Facts:
    """What every answer may say of its call: the model that answered, the request's id, what it took, and a warning."""

    model: str
    request_id: str
    created: int
    report: CallReport
    truncated: int = 0

    @property
    def warnings(self) -> list[str]:
        """Sentences for the client."""
        return [f"{self.truncated} of the pairs exceeded a limit of tokens and were cut"] if self.truncated else []


@dataclass(frozen=True)
class Ranking:
    """The documents of a ``RankCall``, best first, as many as it asked for; the spans of each by its index."""

    documents: list[RankedDocument]
    facts: Facts
    spans: Mapping[int, list[RankedPart]] = field(default_factory=dict)


@dataclass(frozen=True)
class RankedPart:
    """A part of a document that matched: ``start`` and ``end`` in code points, and its score."""

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class PairScores:
    """Float32 ``[pairs, labels]`` for a ``PairCall``."""

    scores: FloatArray
    labels: Sequence[str]
    facts: Facts


Call = RankCall | PairCall
Outcome = Ranking | PairScores


@dataclass(frozen=True)
class Problem:
    """Why a request is refused, for ``Wire.problem``: the status, a short word for its kind, and a sentence."""

    status: int
    kind: str
    message: str
    request_id: str = ""


@dataclass(frozen=True)
class Wire:
    """One form of request and answer.

    name:     its name in metrics and logs.
    request:  the fields that it reads; unknown ones are ignored.
    response: what it answers.
    read:     makes the call of a request. It raises InputError for values that cannot be used.
    answer:   makes the answer of what came out.
    problem:  makes the body of a refusal.
    error:    the type of that body.
    """

    name: str
    request: Any
    response: Any
    read: Callable[[Any], Call]
    answer: Callable[[Any, Any], Any]
    problem: Callable[[Problem], Any]
    error: Any


class DetailError(msgspec.Struct):
    """A refusal with its reason in the fields that the clients of several services look for."""

    message: str
    detail: str
    error: str
    error_type: str
    code: int
    request_id: str


def detail_error(problem: Problem) -> DetailError:
    """Cohere's SDK shows ``message``, Voyage's ``detail``, those for text-embeddings-inference ``error``."""
    message = problem.message
    return DetailError(message, message, message, problem.kind, problem.status, problem.request_id)


def top_n_of(value: int | None, name: str = "top_n") -> int | None:
    """A number of documents, as clients give it: null, 0 or absent for all.

    Raises:
        InputError: it is negative.
    """
    if value is not None and value < 0:
        raise InputError(f"{name} is {value}; give the number of documents, or 0 for all", argument=name, value=value)
    return value or None


def priority_of(value: int | None) -> int:
    """A priority, 0 if the client gave none.

    Raises:
        InputError: it is out of its range.
    """
    if value is not None and not 0 <= value <= MAX_PRIORITY:
        raise InputError(
            f"priority is {value}; give 0, the most urgent, to {MAX_PRIORITY}", argument="priority", value=value
        )
    return value or 0


def limit_of(value: int | None, name: str) -> int | None:
    """A number of tokens, as clients give it: null, 0, -1 or absent for no limit.

    Raises:
        InputError: it is below -1.
    """
    if value is not None and value < -1:
        raise InputError(f"{name} is {value}; give a number of tokens, or -1 for no limit", argument=name, value=value)
    return None if value in (None, 0, -1) else value

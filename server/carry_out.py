"""Carries out a neutral call on a model: ranks the documents, scores the pairs, and finds the parts that match."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modernrank import AsyncReranker, CallReport, DeadlineError, RankedDocument, TextLimits, Truncation
from modernrank.arrays import FloatArray
from modernrank.errors import InputError
from modernrank.queue.urgency import Urgency

from .limits import Rules
from .wires.base import Call, Facts, Outcome, PairCall, PairScores, RankCall, RankedPart, Ranking


async def carry_out(call: Call, name: str, model: AsyncReranker, rules: Rules, request_id: str) -> Outcome:
    """The result of a call.

    Args:
        call: what a wire has read.
        name: of the model, for the answer.
        model: that scores.
        rules: of the server.
        request_id: for the answer.

    Raises:
        InputError: a text cannot be used, or a limit is exceeded.
        OverloadedError, DeadlineError, ClosedError, BackendError: as ``AsyncReranker.score``.
    """
    _check_size(call, rules)
    _check_labels(call, name, model.labels)
    work = _Work(model, rules, Urgency.of(call.priority, rules.seconds))
    try:
        await work.check_tokens(call)
        if isinstance(call, PairCall):
            scores, truncated = await work.score(call)
            return PairScores(scores, model.labels, work.facts(name, request_id, truncated))
        documents = await work.rank(call)
        spans = await work.spans(call, documents)
    except InputError as error:
        if error.details.get("argument") == "max_call_tokens":
            raise _too_many_tokens(rules) from error
        raise
    except DeadlineError as error:
        raise DeadlineError(
            f"the request was not done within {rules.seconds:g} s (request_timeout); try again later, or send fewer or "
            "shorter documents",
            timeout=rules.seconds,
        ) from error
    return Ranking(documents, work.facts(name, request_id, sum(place.tokens_cut > 0 for place in documents)), spans)


@dataclass(frozen=True)
class _Work:
    """A call on its way: the model, what the server allows, the deadline, and what it has taken so far."""

    model: AsyncReranker
    rules: Rules
    deadline: Urgency
    report: CallReport = field(default_factory=CallReport)

    async def check_tokens(self, call: Call) -> None:
        """Refuse a call of too many tokens before anything of it is scored.

        Tokens are counted in advance only where the characters are so many that it is possible.
        """
        distinct = (
            call.pairs if isinstance(call, PairCall) else [(call.query, d) for d in dict.fromkeys(call.documents)]
        )
        if sum(len(query) + len(document) for query, document in distinct) <= self.rules.max_tokens:
            return
        tokens = await asyncio.to_thread(self.model.reranker.count_tokens, distinct, limits=call.limits)
        if tokens.sum() > self.rules.max_tokens:
            raise _too_many_tokens(self.rules)

    async def score(self, call: PairCall) -> tuple[FloatArray, int]:
        """Float32 ``[pairs, labels]``, and the number of pairs that were cut."""
        cuts: list[Truncation] = []
        labels = self.model.labels
        scores = await self.model.score(
            call.pairs,
            activation=call.activation or ("sigmoid" if len(labels) == 1 else "softmax"),
            limits=self._limits(call),
            on_truncate=cuts.append,
            priority=call.priority,
            timeout=self._seconds_left(),
            report=self.report,
        )
        return scores.reshape(-1, len(labels)), len(cuts)

    async def rank(self, call: RankCall) -> list[RankedDocument]:
        """The documents, best first."""
        refuses = call.limits.truncation == "error"
        long_documents = call.long_documents or ("truncate" if refuses else self.rules.long_documents)
        try:
            return await self._rank(call, call.documents, self.report, call.top_n, long_documents=long_documents)
        except InputError as error:
            if long_documents == "truncate" or "room" not in error.details:
                raise
        # The query leaves no room for parts of a long document: then both are cut, as `transformers` cuts them.
        return await self._rank(call, call.documents, self.report, call.top_n)

    async def spans(self, call: RankCall, documents: list[RankedDocument]) -> Mapping[int, list[RankedPart]]:
        """The parts of the documents in the answer that match, the best first: a second, finer look at these alone."""
        if call.spans is None or not documents:
            return {}
        texts, report = [place.document for place in documents], CallReport()
        half = replace(call, limits=TextLimits(max_query_tokens=self.model.max_length // 2) | call.limits)
        options: dict[str, Any] = {"part_tokens": self.rules.span_tokens, "with_parts": True}
        try:
            fine = await self._rank(half, texts, report, None, long_documents="chunk", **options)
        except InputError as error:
            if "room" not in error.details:
                raise
            return {}  # the query leaves no room for parts
        self.report.add(report)
        spans = {}
        for place in fine:
            above = [part for part in place.parts if part.score >= call.spans.threshold]
            best = sorted(above, key=lambda part: (-part.score, part.start))[: call.spans.maximum]
            spans[documents[place.index].index] = [RankedPart(part.start, part.end, part.score) for part in best]
        return spans

    def facts(self, name: str, request_id: str, truncated: int) -> Facts:
        """What the answer says of the call."""
        return Facts(name, request_id, int(time.time()), self.report, truncated)

    async def _rank(
        self, call: RankCall, documents: Sequence[str], report: CallReport, top_n: int | None, **options: Any
    ) -> list[RankedDocument]:
        return await self.model.rank(
            call.query,
            documents,
            top_n,
            activation=call.activation,
            limits=self._limits(call),
            priority=call.priority,
            timeout=self._seconds_left(),
            report=report,
            **options,
        )

    def _limits(self, call: Call) -> TextLimits:
        return TextLimits(max_call_tokens=self.rules.max_tokens) | call.limits

    def _seconds_left(self) -> float | None:
        self.deadline.check()
        return self.deadline.seconds_left()


def _check_size(call: Call, rules: Rules) -> None:
    texts = call.documents if isinstance(call, RankCall) else [text for pair in call.pairs for text in pair]
    count = len(texts) if isinstance(call, RankCall) else len(call.pairs)
    if count > rules.max_documents:
        raise InputError(
            f"the request has {count:,} documents, and the limit max_documents is {rules.max_documents:,}; send them "
            "in several requests",
            argument="max_documents",
            value=count,
            limit=rules.max_documents,
        )
    longest = len(call.query) if isinstance(call, RankCall) else max((len(query) for query, _ in call.pairs), default=0)
    if longest > rules.max_query_characters:
        raise InputError(
            f"a query has {longest:,} characters, and the limit max_query_characters is "
            f"{rules.max_query_characters:,}; shorten it",
            argument="max_query_characters",
            value=longest,
            limit=rules.max_query_characters,
        )
    characters = sum(map(len, texts)) + (len(call.query) if isinstance(call, RankCall) else 0)
    if characters > rules.max_characters:
        raise InputError(
            f"the texts of the request have {characters:,} characters, and the limit max_characters is "
            f"{rules.max_characters:,}; send fewer or shorter documents",
            argument="max_characters",
            value=characters,
            limit=rules.max_characters,
        )


def _check_labels(call: Call, name: str, labels: Sequence[str]) -> None:
    if len(labels) != 1 and (isinstance(call, RankCall) or call.of_one_label):
        raise InputError(
            f"{name} gives {len(labels)} labels, so that nothing can be ranked by one score; use /predict",
            labels=list(labels),
        )


def _too_many_tokens(rules: Rules) -> InputError:
    """By the name that the limit has here."""
    return InputError(
        f"the texts of the request have more than {rules.max_tokens:,} tokens, which is the limit max_tokens; send "
        "fewer or shorter documents",
        argument="max_tokens",
        limit=rules.max_tokens,
    )

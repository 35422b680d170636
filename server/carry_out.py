"""Carries out a neutral call on a model: ranks the documents, scores the pairs, and finds the parts that match."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from modernrank import AsyncReranker, CallReport, DeadlineError, RankedDocument, TextLimits, Truncation
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
    deadline = Urgency.of(call.priority, rules.seconds)
    report = CallReport()
    try:
        if isinstance(call, PairCall):
            return await _score(call, name, model, rules, request_id, deadline, report)
        documents = await _rank(call, model, rules, deadline, report)
        spans = await _spans(call, documents, model, rules, deadline, report)
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
    truncated = sum(place.tokens_cut > 0 for place in documents)
    facts = Facts(name, request_id, int(time.time()), report, truncated)
    return Ranking(documents, facts, spans)


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


def _seconds_left(deadline: Urgency) -> float | None:
    deadline.check()
    return deadline.seconds_left()


def _too_many_tokens(rules: Rules) -> InputError:
    """By the name that the limit has here."""
    return InputError(
        f"the texts of the request have more than {rules.max_tokens:,} tokens, which is the limit max_tokens; send "
        "fewer or shorter documents",
        argument="max_tokens",
        limit=rules.max_tokens,
    )


async def _score(
    call: PairCall,
    name: str,
    model: AsyncReranker,
    rules: Rules,
    request_id: str,
    deadline: Urgency,
    report: CallReport,
) -> PairScores:
    cuts: list[Truncation] = []
    labels = model.labels
    scores = await model.score(
        call.pairs,
        activation=call.activation or ("sigmoid" if len(labels) == 1 else "softmax"),
        limits=TextLimits(max_call_tokens=rules.max_tokens) | call.limits,
        on_truncate=cuts.append,
        priority=call.priority,
        timeout=_seconds_left(deadline),
        report=report,
    )
    facts = Facts(name, request_id, int(time.time()), report, len(cuts))
    return PairScores(scores.reshape(-1, len(labels)), labels, facts)


async def _rank(
    call: RankCall, model: AsyncReranker, rules: Rules, deadline: Urgency, report: CallReport
) -> list[RankedDocument]:
    long_documents = call.long_documents or ("truncate" if call.limits.truncation == "error" else rules.long_documents)
    limits = TextLimits(max_call_tokens=rules.max_tokens) | call.limits
    try:
        return await model.rank(
            call.query,
            call.documents,
            call.top_n,
            activation=call.activation,
            limits=limits,
            long_documents=long_documents,
            priority=call.priority,
            timeout=_seconds_left(deadline),
            report=report,
        )
    except InputError as error:
        if long_documents == "truncate" or "room" not in error.details:
            raise
    # The query leaves no room for parts of a long document: then both are cut, as `transformers` cuts them.
    return await model.rank(
        call.query,
        call.documents,
        call.top_n,
        activation=call.activation,
        limits=limits,
        priority=call.priority,
        timeout=_seconds_left(deadline),
        report=report,
    )


async def _spans(
    call: RankCall,
    documents: list[RankedDocument],
    model: AsyncReranker,
    rules: Rules,
    deadline: Urgency,
    report: CallReport,
) -> Mapping[int, list[RankedPart]]:
    """The parts of the documents in the answer that match, the best first: a second, finer look at these alone."""
    if call.spans is None or not documents:
        return {}
    parts_report = CallReport()
    try:
        fine = await _ranked_parts(call, documents, model, rules, deadline, parts_report)
    except InputError as error:
        if "room" not in error.details:
            raise
        return {}  # the query leaves no room for parts
    report.add(parts_report)
    spans = {}
    for place in fine:
        above = [part for part in place.parts if part.score >= call.spans.threshold]
        best = sorted(above, key=lambda part: (-part.score, part.start))[: call.spans.maximum]
        spans[documents[place.index].index] = [RankedPart(part.start, part.end, part.score) for part in best]
    return spans


async def _ranked_parts(
    call: RankCall,
    documents: list[RankedDocument],
    model: AsyncReranker,
    rules: Rules,
    deadline: Urgency,
    report: CallReport,
) -> list[RankedDocument]:
    return await model.rank(
        call.query,
        [place.document for place in documents],
        activation=call.activation,
        limits=TextLimits(max_call_tokens=rules.max_tokens, max_query_tokens=model.max_length // 2) | call.limits,
        long_documents="chunk",
        part_tokens=rules.span_tokens,
        with_parts=True,
        priority=call.priority,
        timeout=_seconds_left(deadline),
        report=report,
    )

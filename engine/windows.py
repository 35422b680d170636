"""From texts to logits, one window after the other: what ``Reranker`` does between its arguments and its results.

texts ──windows──▶ some thousand pairs ──PairEncoder──▶ token ids ──Scorer──▶ logits

A window is encoded, planned and scored as a whole, so a stream of any length takes constant memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from .arrays import FloatArray
from .batching.prefetch import Window, growing_windows, prefetch, windows
from .scorer import Scorer
from .text.encoder import EncodedPair, PairEncoder
from .text.truncation import Truncation, TruncationSummary

T = TypeVar("T")
R = TypeVar("R")

OnTruncate = Callable[[Truncation], None]
# A document's logit, and the number of tokens that its pair lost.
DocumentLogit = tuple[float, int]


def score_pairs(
    scorer: Scorer, encoder: PairEncoder, pairs: Iterable[object], size: int, on_truncate: OnTruncate | None
) -> Generator[FloatArray, None, None]:
    """Logits ``[pairs, labels]`` of each window of at most ``size`` pairs.

    ``on_truncate`` is called for each pair that was cut. Without it, a warning counts those of the first window before
    the work, so that a warning which is turned into an error wastes none, and another one counts all at the end.
    """
    summary = TruncationSummary(encoder.max_length)
    notify = summary if on_truncate is None else on_truncate
    start = 0
    try:
        for encoded in _encode(scorer, pairs, size, lambda window: encoder.encode(window.items, window.indices)):
            for index, pair in enumerate(encoded, start):
                if pair.tokens_cut:
                    notify(Truncation(index, pair.query_tokens_cut, pair.document_tokens_cut))
            if start == 0:
                summary.warn()
            yield scorer.score([pair.ids for pair in encoded])
            start += len(encoded)
    except GeneratorExit:  # the caller stops early
        summary.warn()
        raise
    summary.warn()


def score_documents(
    scorer: Scorer, encoder: PairEncoder, query: str, documents: Mapping[str, int], size: int
) -> Iterator[list[DocumentLogit]]:
    """The logits of a query's documents in each window, for a model of one label.

    ``documents`` maps each distinct document to its first index in the caller's input.
    """

    def encode(window: Window[tuple[str, int]]) -> list[EncodedPair]:
        return encoder.encode([(query, document) for document, _ in window.items], [index for _, index in window.items])

    for encoded in _encode(scorer, documents.items(), size, encode):
        logits = scorer.score([pair.ids for pair in encoded])[:, 0]
        yield [(logit, pair.tokens_cut) for logit, pair in zip(logits.tolist(), encoded, strict=True)]


def score_parts(
    scorer: Scorer, encoder: PairEncoder, query: str, documents: Mapping[str, int], size: int, max_parts: int | None
) -> Iterator[list[DocumentLogit]]:
    """The logits of the best part of each document, and the number of tokens beyond its last part."""

    def encode(window: Window[tuple[str, int]]) -> list[list[EncodedPair]]:
        texts, indices = zip(*window.items, strict=True)
        return encoder.encode_parts(query, texts, indices, max_parts)

    for encoded in _encode(scorer, documents.items(), size, encode):
        logits = scorer.score([part.ids for parts in encoded for part in parts])[:, 0]
        best = np.maximum.reduceat(logits, np.cumsum([0, *map(len, encoded[:-1])]))
        yield [(logit, parts[-1].tokens_cut) for logit, parts in zip(best.tolist(), encoded, strict=True)]


def _encode(scorer: Scorer, items: Iterable[T], size: int, encode: Callable[[Window[T]], R]) -> Iterator[R]:
    """Encode a stream window by window; if the backend prefers it, one window ahead in another thread."""

    def timed(window: Window[T]) -> R:
        with scorer.timer.stage("tokenise"):
            return encode(window)

    policy = scorer.policy
    if policy.prefetch_pairs is None:
        return map(timed, windows(items, size))
    return prefetch(timed, growing_windows(items, policy.first_pairs, min(size, policy.prefetch_pairs)))

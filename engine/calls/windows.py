"""What a call does with each window of its texts, and how a thread carries it out.

texts ──windows──▶ some thousand pairs ──encode──▶ token ids ──Scorer──▶ logits ──results──▶ logits by pair or document

A window is encoded, planned and scored as a whole, so a stream of any length takes constant memory. ``AsyncReranker``
takes the same steps in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.batching.prefetch import Window, growing_windows, prefetch, windows
from modernrank.options import TextLimits, positive
from modernrank.queue.urgency import Urgency
from modernrank.scorer import Scorer
from modernrank.text.encoder import EncodedPair, PairEncoder
from modernrank.text.truncation import Truncation, TruncationSummary, check_call_tokens

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R", covariant=True)

OnTruncate = Callable[[Truncation], None]

# Pairs that are encoded, planned and scored together: enough to find rows of similar length, few enough for memory.
WINDOW = 4096


@dataclass(frozen=True)
class PartLogit:
    """The logit of a part of a document, and its characters: ``(start, end)`` in code points."""

    characters: tuple[int, int]
    logit: float


@dataclass(frozen=True)
class DocumentLogit:
    """The logit of a document, the tokens that its pair lost, and its parts where the call asked for them."""

    logit: float
    tokens_cut: int
    parts: tuple[PartLogit, ...] = ()


class Steps(Protocol[T, E, R]):
    """The steps of a call: items of type T, which become E when they are encoded, and R when they are scored."""

    size: CallSize

    @property
    def items(self) -> Iterable[T]:
        """What is scored."""
        ...

    def encode(self, window: Window[T]) -> E:
        """Tokenise a window. Another thread may do this."""
        ...

    def announce(self, encoded: E) -> None:
        """Tell the caller what was cut, before the window is scored."""
        ...

    def token_ids(self, encoded: E) -> list[IntArray]:
        """What ``Scorer`` gets."""
        ...

    def results(self, encoded: E, logits: FloatArray) -> R:
        """What the caller gets of the window. ``logits``: ``[pairs, labels]`` for the pairs of ``token_ids``."""
        ...

    def end(self) -> None:
        """Tell the caller what was cut in all; also if it stops early."""
        ...


def score_windows(scorer: Scorer, steps: Steps[T, E, R], size: int, urgency: Urgency) -> Generator[R, None, None]:
    """Carry out a call: the results of each window of at most ``size`` items."""
    scorer.check_room()
    continues = False
    try:
        for encoded in _encoded(scorer, steps, size):
            steps.announce(encoded)
            yield steps.results(encoded, scorer.score_urgently(steps.token_ids(encoded), urgency, continues))
            continues = True
    except GeneratorExit:  # the caller stops early
        steps.end()
        raise
    steps.end()


def _encoded(scorer: Scorer, steps: Steps[T, E, R], size: int) -> Iterator[E]:
    """Encode window by window; if the backend prefers it, one window ahead in another thread."""

    def encode(window: Window[T]) -> E:
        with scorer.timer.stage("tokenise"):
            return steps.encode(window)

    policy = scorer.policy
    if policy.prefetch_pairs is None:
        return map(encode, windows(steps.items, size))
    return prefetch(encode, growing_windows(steps.items, policy.first_pairs, min(size, policy.prefetch_pairs)))


class CallSize:
    """Counts the pairs and tokens of a call while it is encoded, and refuses a call that becomes too large."""

    def __init__(self, limits: TextLimits, noun: str = "pair") -> None:
        self._limits = limits
        self._noun = noun
        self.pairs = self.tokens = 0

    def add(self, encoded: Sequence[EncodedPair]) -> None:
        """Count the pairs of a window.

        Raises:
            InputError: the call has more than ``max_call_tokens`` so far.
        """
        self.pairs += len(encoded)
        self.tokens += sum(len(pair.ids) for pair in encoded)
        check_call_tokens(self._limits, self.tokens, self.pairs, self._noun)


class PairSteps:
    """Scores pairs: the results of a window are its logits ``[pairs, labels]``.

    ``on_truncate`` is called for each pair that was cut. Without it, a warning counts those of the first window before
    the work, so that a warning which is turned into an error wastes none, and another one counts all at the end.
    """

    noun = "pair"

    def __init__(self, encoder: PairEncoder, pairs: Iterable[object], on_truncate: OnTruncate | None) -> None:
        self.items = pairs
        self.size = CallSize(encoder.limits, self.noun)
        self._encoder = encoder
        self._summary = TruncationSummary(encoder.max_length, self.noun)
        self._notify: OnTruncate = self._summary if on_truncate is None else on_truncate
        self._announced = 0

    def encode(self, window: Window[object]) -> list[EncodedPair]:
        """Encode the pairs of a window."""
        encoded = self._encode(window)
        self.size.add(encoded)
        return encoded

    def _encode(self, window: Window[object]) -> list[EncodedPair]:
        return self._encoder.encode(window.items, window.indices)

    def announce(self, encoded: list[EncodedPair]) -> None:
        """Report each pair that was cut."""
        for index, pair in enumerate(encoded, self._announced):
            if pair.tokens_cut:
                self._notify(Truncation(index, pair.query_tokens_cut, pair.document_tokens_cut))
        if self._announced == 0:
            self._summary.warn()
        self._announced += len(encoded)

    def token_ids(self, encoded: list[EncodedPair]) -> list[IntArray]:
        """Of each pair."""
        return [pair.ids for pair in encoded]

    def results(self, encoded: list[EncodedPair], logits: FloatArray) -> FloatArray:
        """The logits."""
        return logits

    def end(self) -> None:
        """Warn about all pairs that were cut."""
        self._summary.warn()


class TextSteps(PairSteps):
    """Scores single texts, in the same way."""

    noun = "text"

    def _encode(self, window: Window[object]) -> list[EncodedPair]:
        return self._encoder.encode_texts(window.items, window.indices)


class _DocumentSteps(Generic[E]):
    """What is common to the documents of a query; they say themselves what was cut, so nothing is announced."""

    def __init__(self, encoder: PairEncoder, query: str, documents: Mapping[str, int]) -> None:
        self.items = documents.items()
        self.size = CallSize(encoder.limits)
        self._encoder = encoder
        self._query = query

    def announce(self, encoded: E) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class WholeDocumentSteps(_DocumentSteps[list[EncodedPair]]):
    """Scores a query's documents, for a model of one label.

    Args:
        encoder: with the limits of the call.
        query: a string.
        documents: each distinct document, and its first index in the caller's input.
    """

    def encode(self, window: Window[tuple[str, int]]) -> list[EncodedPair]:
        """Encode each document with the query."""
        pairs = [(self._query, document) for document, _ in window.items]
        encoded = self._encoder.encode(pairs, [index for _, index in window.items])
        self.size.add(encoded)
        return encoded

    def token_ids(self, encoded: list[EncodedPair]) -> list[IntArray]:
        """Of each document."""
        return [pair.ids for pair in encoded]

    def results(self, encoded: list[EncodedPair], logits: FloatArray) -> list[DocumentLogit]:
        """Of each document."""
        return [
            DocumentLogit(logit, pair.tokens_cut) for logit, pair in zip(logits[:, 0].tolist(), encoded, strict=True)
        ]


@dataclass(frozen=True)
class PartOptions:
    """How long documents are cut into parts.

    max_parts: maximum number of parts of a document; None for no limit.
    tokens:    maximum number of a document's tokens in a part; None for what the pair's limit leaves.
    report:    whether the result says what each part scored.

    Raises:
        InputError: a number is not at least 1.
    """

    max_parts: int | None = None
    tokens: int | None = None
    report: bool = False

    def __post_init__(self) -> None:
        for name, value in (("max_parts", self.max_parts), ("part_tokens", self.tokens)):
            if value is not None:
                positive(name, value)

    @property
    def given(self) -> str:
        """The name of an option that is set, as ``Reranker.rank`` takes it; empty if none is."""
        options = {"max_parts": self.max_parts, "part_tokens": self.tokens, "with_parts": self.report}
        return next((name for name, value in options.items() if value), "")


class DocumentPartSteps(_DocumentSteps[list[list[EncodedPair]]]):
    """Scores a query's documents in overlapping parts, of which the best one counts.

    Args:
        encoder: with the limits of the call.
        query: a string.
        documents: each distinct document, and its first index in the caller's input.
        options: of the parts.
    """

    def __init__(self, encoder: PairEncoder, query: str, documents: Mapping[str, int], options: PartOptions) -> None:
        super().__init__(encoder, query, documents)
        self._options = options

    def encode(self, window: Window[tuple[str, int]]) -> list[list[EncodedPair]]:
        """Encode the parts of each document with the query."""
        texts, indices = zip(*window.items, strict=True)
        options = self._options
        encoded = self._encoder.encode_parts(
            self._query, texts, indices, options.max_parts, options.tokens, options.report
        )
        self.size.add([part for parts in encoded for part in parts])
        return encoded

    def token_ids(self, encoded: list[list[EncodedPair]]) -> list[IntArray]:
        """Of each part."""
        return [part.ids for parts in encoded for part in parts]

    def results(self, encoded: list[list[EncodedPair]], logits: FloatArray) -> list[DocumentLogit]:
        """The logit of the best part of each document, and the number of tokens beyond its last part."""
        starts = np.cumsum([0, *map(len, encoded[:-1])])
        best = np.maximum.reduceat(logits[:, 0], starts)
        return [
            DocumentLogit(logit, parts[-1].tokens_cut, _part_logits(parts, logits[start : start + len(parts), 0]))
            for logit, parts, start in zip(best.tolist(), encoded, starts.tolist(), strict=True)
        ]


def _part_logits(parts: list[EncodedPair], logits: FloatArray) -> tuple[PartLogit, ...]:
    """Of those parts that hold text and know which."""
    return tuple(
        PartLogit(part.characters, logit)
        for part, logit in zip(parts, logits.tolist(), strict=True)
        if part.characters is not None
    )

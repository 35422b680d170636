"""What happens to a pair that exceeds ``max_length``: how much of each part remains, and how cuts are reported."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modernrank.errors import InputError, TruncationWarning, counted
from modernrank.options import TextLimits


@dataclass(frozen=True)
class Truncation:
    """A pair that was cut: its index in the input, and the number of tokens that its query and document lost.

    A single text counts as a document.
    """

    index: int
    query_tokens_cut: int
    document_tokens_cut: int


@dataclass(frozen=True)
class TooLong:
    """A pair that exceeds the limit, all in tokens.

    query, document: tokens of each part.
    room:  what both parts may take together.
    name:  names the pair and the limit in errors.
    index: of the pair in the caller's input.
    """

    query: int
    document: int
    room: int
    name: str
    index: int


def _refuse(pair: TooLong) -> tuple[int, int]:
    raise InputError(
        f"{pair.name}; shorten it, raise max_length, or choose another truncation",
        argument="truncation",
        index=pair.index,
        tokens=pair.query + pair.document,
    )


def _cut_the_document(pair: TooLong) -> tuple[int, int]:
    if pair.query > pair.room:
        raise InputError(
            f"{pair.name}, and its query alone has {pair.query} tokens, which truncation='document' never cuts; "
            "shorten the query, raise max_length, or choose truncation='longest_first'",
            argument="truncation",
            index=pair.index,
            query_tokens=pair.query,
        )
    return pair.query, pair.room - pair.query


def _cut_the_longer_part(pair: TooLong) -> tuple[int, int]:
    return longest_first(pair.query, pair.document, pair.room)


# How many tokens of the query and of the document each policy keeps of a pair that is too long.
POLICIES: Mapping[str, Callable[[TooLong], tuple[int, int]]] = {
    "longest_first": _cut_the_longer_part,
    "document": _cut_the_document,
    "error": _refuse,
}


# The token ids that remain of a part, by the side that is cut.
_CUTS: Mapping[str, Callable[[list[int], int], list[int]]] = {
    "right": lambda ids, length: ids[:length],
    "left": lambda ids, length: ids[len(ids) - length :],
}
SIDES = tuple(_CUTS)


def cut(ids: list[int], length: int, side: str) -> list[int]:
    """The ``length`` token ids that remain of a part whose ``side``, one of SIDES, is cut.

    >>> cut([1, 2, 3], 2, "right"), cut([1, 2, 3], 2, "left")
    ([1, 2], [2, 3])
    """
    return _CUTS[side](ids, length)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths that remain of two parts that together exceed ``room`` (all in tokens).

    The rule of ``truncation="longest_first"`` in ``transformers`` and ``tokenizers``: the shorter part is kept whole as
    long as it is under half of the room. Otherwise both get half, and the odd token goes to the longer part (to the
    second where both are equal).

    >>> longest_first(5, 100, 20), longest_first(100, 100, 21)
    ((5, 15), (10, 11))
    """
    short, long = min(first, second), room - min(first, second)
    if short > room // 2:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)


def check_call_tokens(limits: TextLimits, tokens: int, count: int, noun: str) -> None:
    """Do nothing within the limit of a whole call.

    Args:
        limits: of the call.
        tokens: so far.
        count: of the pairs or documents that have them.
        noun: what is counted.

    Raises:
        InputError: ``tokens`` exceed ``max_call_tokens``.
    """
    if limits.max_call_tokens is not None and tokens > limits.max_call_tokens:
        raise InputError(
            f"the first {counted(count, noun)} of this call have {tokens:,} tokens, and max_call_tokens is "
            f"{limits.max_call_tokens:,}; send fewer or shorter documents",
            argument="max_call_tokens",
            value=tokens,
            limit=limits.max_call_tokens,
        )


class TruncationSummary:
    """Collects cut pairs or texts, of which ``noun`` is the singular, and reports them in one warning."""

    def __init__(self, max_length: int, noun: str = "pair") -> None:
        self._max_length = max_length
        self._noun = noun
        self._pairs = self._tokens = self._reported = 0
        self._first: Truncation | None = None

    def __call__(self, truncation: Truncation) -> None:
        """Add one cut pair."""
        self._first = self._first or truncation
        self._pairs += 1
        self._tokens += truncation.query_tokens_cut + truncation.document_tokens_cut

    def warn(self) -> None:
        """Warn about all pairs so far, if any were added since the last warning."""
        if self._first is None or self._pairs == self._reported:
            return
        self._reported = self._pairs
        verb = "was" if self._pairs == 1 else "were"
        warnings.warn(
            f"{counted(self._pairs, self._noun)} {verb} cut to max_length={self._max_length} and lost "
            f"{counted(self._tokens, 'token')} (the first is {self._noun} {self._first.index}); pass on_truncate to "
            "see each",
            TruncationWarning,
            stacklevel=_level_of_caller(),
        )


def _level_of_caller() -> int:
    """The ``stacklevel`` of ``warnings.warn`` that names the line outside this package which requested the scores."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "modernrank":
        level, frame = level + 1, frame.f_back
    return level

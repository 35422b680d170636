"""Turn (query, document) pairs into token ids, and cut what is too long exactly as ``transformers`` does.

    [CLS] query [SEP] document [SEP]

``tokenizer.json`` may embed padding and truncation of its own (the target's pads every text to 8,000 tokens);
both are switched off here, once, and nothing about the tokenizer changes after: several threads may encode at
the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from modernrank.batching.packing import IntArray
from modernrank.errors import ArtifactError, InputError

TRUNCATIONS = ("longest_first", "document", "error")
# Of a long document that is scored in parts, neighbours share this much of their tokens: what lies on the border of one
# part, if it is no longer than that, stands whole in the next.
SHARED = 1 / 4
LEAST_PART = 16  # tokens of a document beside the query
SIDES = ("right", "left")

Pair = tuple[str, str]


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one pair, int64 ``[tokens]``, and how many tokens of each part were cut off."""

    ids: IntArray
    query_tokens_cut: int = 0
    document_tokens_cut: int = 0


@dataclass(frozen=True)
class _Template:
    """The special tokens around a pair: ``before query between document after``."""

    before: list[int]
    between: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class PairEncoder:
    """Encodes pairs to at most ``max_length`` tokens.

    Args:
        tokenizer_file: a ``tokenizer.json``.
        max_length: most tokens in a pair, special tokens included.
        truncation: ``"longest_first"`` cuts the longer part first, token by token, as ``transformers`` does by
            default; ``"document"`` never cuts the query; ``"error"`` refuses a pair that is too long.
        truncation_side: ``"right"`` cuts a part's end, ``"left"`` its beginning.
        vocabulary: rows of the model's embedding table; a tokenizer with ids beyond it is refused.
    """

    def __init__(
        self,
        tokenizer_file: Path,
        max_length: int,
        truncation: str = "longest_first",
        truncation_side: str = "right",
        vocabulary: int | None = None,
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer_file, vocabulary)
        self._template = _find_template(self._tokenizer)
        if truncation not in TRUNCATIONS:
            raise InputError(f"truncation {truncation!r} is unknown; choose one of {', '.join(TRUNCATIONS)}")
        if truncation_side not in SIDES:
            raise InputError(f"truncation side {truncation_side!r} is unknown; choose one of {', '.join(SIDES)}")
        if max_length < len(self._template):
            raise InputError(
                f"max_length {max_length} leaves no room for the {len(self._template)} special tokens of a pair; "
                "raise it"
            )
        self.max_length = max_length
        self.truncation = truncation
        self._side = truncation_side

    def count(self, pair: Pair) -> int:
        """Tokens of a pair, special tokens included, cut as ``encode`` cuts it."""
        return len(self.encode([pair])[0].ids)

    def encode(self, pairs: Sequence[Pair], first_index: int = 0) -> list[EncodedPair]:
        """Encode ``pairs``. A text that occurs in several pairs, as a query does, is tokenised once.

        Args:
            pairs: (query, document) tuples of strings.
            first_index: index of ``pairs[0]`` in the caller's input, for error messages.

        Raises:
            InputError: not two strings, text that is not valid Unicode, or a pair too long for ``truncation``.
        """
        for index, pair in enumerate(pairs, start=first_index):
            check_pair(pair, f"pair {index}")
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ids = {text: encoding.ids for text, encoding in zip(texts, encodings, strict=True)}
        return [
            self._join(ids[query], ids[document], index)
            for index, (query, document) in enumerate(pairs, start=first_index)
        ]

    def encode_parts(self, query: str, documents: Sequence[str], first_index: int = 0) -> list[list[EncodedPair]]:
        """Encode each document in as many overlapping parts as it takes, each with the whole query: nothing is cut.

        Args:
            query, documents: strings.
            first_index: index of ``documents[0]`` in the caller's input, for error messages.

        Raises:
            InputError: beside the query there is no room for LEAST_PART tokens of a document that needs parts.
        """
        (asked,) = self._tokenizer.encode_batch_fast([query], add_special_tokens=False)
        encodings = self._tokenizer.encode_batch_fast(list(documents), add_special_tokens=False)
        room = self.max_length - len(self._template) - len(asked.ids)
        parts = []
        for index, encoding in enumerate(encodings, start=first_index):
            ids = encoding.ids
            if len(ids) > room and room < LEAST_PART:
                raise InputError(
                    f"document {index} needs parts, but beside the query's {len(asked.ids)} tokens max_length "
                    f"{self.max_length} leaves {max(0, room)} for each, and {LEAST_PART} are the least; shorten the "
                    "query or raise max_length"
                )
            spans = overlapping(len(ids), room)
            parts.append([self._join(asked.ids, ids[first:last], index) for first, last in spans])
        return parts

    def _join(self, query: list[int], document: list[int], index: int) -> EncodedPair:
        room = self.max_length - len(self._template)
        keep_query, keep_document = len(query), len(document)
        if len(query) + len(document) > room:
            keep_query, keep_document = self._keep(len(query), len(document), room, index)
        template = self._template
        kept_query, kept_document = self._cut(query, keep_query), self._cut(document, keep_document)
        ids = [*template.before, *kept_query, *template.between, *kept_document, *template.after]
        return EncodedPair(np.array(ids, np.int64), len(query) - keep_query, len(document) - keep_document)

    def _keep(self, query: int, document: int, room: int, index: int) -> tuple[int, int]:
        """How many tokens of a query and a document remain when both must fit in ``room``."""
        asked = f"pair {index} has {query + document + len(self._template)} tokens, max_length is {self.max_length}"
        if self.truncation == "error":
            raise InputError(f"{asked}; shorten it, raise max_length, or choose another truncation")
        if self.truncation == "document":
            if query > room:
                raise InputError(
                    f"{asked} and its query alone takes {query}, which truncation='document' never cuts; "
                    "shorten the query, raise max_length, or choose truncation='longest_first'"
                )
            return query, room - query
        return longest_first(query, document, room)

    def _cut(self, ids: list[int], keep: int) -> list[int]:
        return ids[:keep] if self._side == "right" else ids[len(ids) - keep :]


def overlapping(tokens: int, room: int) -> list[tuple[int, int]]:
    """Spans of at most ``room`` tokens that cover ``tokens``; neighbours share SHARED of the room or more.

    >>> overlapping(10, 20), overlapping(40, 20)
    ([(0, 10)], [(0, 20), (15, 35), (20, 40)])
    """
    if tokens <= room:
        return [(0, tokens)]
    step = room - int(SHARED * room)
    return [
        (min(start, tokens - room), min(start, tokens - room) + room) for start in range(0, tokens - room + step, step)
    ]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths that remain of two parts that together exceed ``room`` (all in tokens).

    The rule of ``truncation="longest_first"`` in ``transformers`` and ``tokenizers``: the shorter part is kept
    whole as long as it is under half of the room; else both get half, and the odd token goes to the longer part
    (to the second where both are equal).

    >>> longest_first(5, 100, 20), longest_first(100, 100, 21)
    ((5, 15), (10, 11))
    """
    short, long = min(first, second), room - min(first, second)
    if short > room // 2:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)


def check_pair(pair: object, what: str) -> None:
    """Refuse whatever is not a (query, document) tuple or list of two valid strings; ``what`` names it.

    Raises:
        InputError: it says what was found instead.
    """
    if not isinstance(pair, tuple | list):
        raise InputError(f"{what} is not a (query, document) tuple of two strings but {type(pair).__name__}")
    if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        kinds = ", ".join(type(text).__name__ for text in pair)
        raise InputError(f"{what} is not a (query, document) tuple of two strings but ({kinds})")
    for part, text in zip(("query", "document"), pair, strict=True):
        check_text(text, f"{what}: its {part}")


def check_text(text: object, what: str) -> str:
    """Return ``text`` if it is a string of valid Unicode; ``what`` names it in the error.

    Raises:
        InputError: it is not.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} is not a string but {type(text).__name__}")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate {text[error.start]!r} at character {error.start}, which is not valid "
            "Unicode; decode the text again, for instance with errors='replace'"
        ) from error
    return text


def check_texts(texts: Iterable[object], what: str) -> list[str]:
    """The list of ``texts``, each checked to be a string. ``what`` names one of them in the error."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"a list of {what}s was expected, not {type(texts).__name__}; put a single one in a list")
    return [check_text(text, f"{what} {index}") for index, text in enumerate(texts)]


def load_tokenizer(file: Path, vocabulary: int | None = None) -> Tokenizer:
    """Load ``tokenizer.json`` with its embedded padding and truncation switched off.

    Raises:
        ArtifactError: it cannot be parsed, or has ids that the embedding table of ``vocabulary`` rows lacks.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception, with the reason as text
        raise ArtifactError(f"{file} is not a tokenizer that `tokenizers` can load ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if vocabulary is not None and largest >= vocabulary:
        raise ArtifactError(
            f"{file} has token ids up to {largest}, but the model's embedding table has only {vocabulary} rows; "
            "the tokenizer and the weights are not of the same model"
        )
    return tokenizer


def _find_template(tokenizer: Tokenizer) -> _Template:
    """Find the special tokens around a pair by encoding two marks and looking where they land."""
    first, second = (tokenizer.encode(mark, add_special_tokens=False) for mark in ("a", "b"))
    ids = tokenizer.encode("a", "b").ids
    if len(first.ids) != 1 or len(second.ids) != 1 or ids.count(first.ids[0]) != 1 or ids.count(second.ids[0]) != 1:
        raise ArtifactError(
            "the tokenizer does not encode a pair as special tokens around two texts; modernrank cannot use it"
        )
    at_first, at_second = ids.index(first.ids[0]), ids.index(second.ids[0])
    if at_first > at_second:
        raise ArtifactError("the tokenizer puts a pair's second text first; modernrank cannot use it")
    return _Template(ids[:at_first], ids[at_first + 1 : at_second], ids[at_second + 1 :])

"""Turn (query, document) pairs into token ids, cut exactly as ``transformers`` cuts them.

    [CLS] query [SEP] document [SEP]

``tokenizer.json`` may embed padding and truncation (the target's pads every text to 8,000 tokens). Both are switched
off here, once. The tokenizer never changes afterwards, so several threads may encode at the same time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from modernrank.arrays import IntArray
from modernrank.errors import ArtifactError, InputError, counted
from modernrank.host import available_threads, sharing_interpreter
from modernrank.options import TruncationChoice, check_choice, positive

from .checks import Pair, as_pair
from .long_documents import MINIMUM_PART, overlapping_spans
from .truncation import POLICIES, SIDES, TooLong, cut

# The texts that the tokenizer receives at once, for each of its threads: some milliseconds of work.
CHARACTERS_PER_THREAD = 16_384
FEW_CHARACTERS = 2_048


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one pair, int64 ``[tokens]``, and how many tokens each part lost to ``max_length``."""

    ids: IntArray
    query_tokens_cut: int = 0
    document_tokens_cut: int = 0

    @property
    def tokens_cut(self) -> int:
        """The tokens that both parts lost."""
        return self.query_tokens_cut + self.document_tokens_cut


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
        max_length: maximum number of tokens in a pair, special tokens included.
        truncation: ``"longest_first"`` cuts the longer part first, token by token, as ``transformers`` does by default;
            ``"document"`` never cuts the query; ``"error"`` refuses a pair that is too long.
        truncation_side: ``"right"`` cuts the end of a part, ``"left"`` its beginning.
        vocabulary: number of rows of the model's embedding table; a tokenizer with ids beyond it is refused.

    Raises:
        ArtifactError: the file is not a tokenizer that encodes pairs, or has ids beyond ``vocabulary``.
        InputError: an argument is out of its range.
    """

    def __init__(
        self,
        tokenizer_file: Path,
        max_length: int,
        truncation: TruncationChoice = "longest_first",
        truncation_side: str = "right",
        vocabulary: int | None = None,
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer_file, vocabulary)
        self._template = _find_template(self._tokenizer, tokenizer_file)
        if truncation_side not in SIDES:
            raise InputError(
                f"truncation side {truncation_side!r} is unknown; choose one of {', '.join(SIDES)}",
                argument="truncation_side",
                value=truncation_side,
                choices=SIDES,
            )
        self._side = truncation_side
        self._characters_at_once = CHARACTERS_PER_THREAD * available_threads()
        self._set_limits(max_length, truncation)

    def with_limits(self, max_length: int, truncation: TruncationChoice) -> PairEncoder:
        """The same encoder with other limits. It shares the tokenizer and costs almost nothing."""
        if (max_length, truncation) == (self.max_length, self.truncation):
            return self
        other = copy.copy(self)
        other._set_limits(max_length, truncation)
        return other

    def _set_limits(self, max_length: int, truncation: TruncationChoice) -> None:
        check_choice("truncation", truncation, TruncationChoice)
        max_length = positive("max_length", max_length)
        if max_length < len(self._template):
            raise InputError(
                f"max_length {max_length} leaves no room for the {len(self._template)} special tokens of a pair; "
                "raise it",
                argument="max_length",
                value=max_length,
                minimum=len(self._template),
            )
        self.max_length = max_length
        self.truncation: TruncationChoice = truncation

    def count(self, pair: Pair) -> int:
        """The number of tokens of a pair, special tokens included, cut as ``encode`` cuts it."""
        return len(self.encode([pair])[0].ids)

    def encode(self, pairs: Sequence[object], indices: Sequence[int] | None = None) -> list[EncodedPair]:
        """Encode ``pairs``. A text that occurs in several pairs, as a query does, is tokenised once.

        Args:
            pairs: (query, document) tuples, lists or arrays of two strings.
            indices: index of each pair in the caller's input, for errors; by default 0, 1, ..

        Raises:
            InputError: a pair is not two strings, is not valid Unicode, or is too long for ``truncation``.
        """
        indices = range(len(pairs)) if indices is None else indices
        numbered = sharing_interpreter(zip(indices, pairs, strict=True))
        checked = [as_pair(pair, f"pair {index}", index=index) for index, pair in numbered]
        texts = list(dict.fromkeys(text for pair in checked for text in pair))
        ids = dict(zip(texts, self._tokenise(texts), strict=True))
        return [
            self._join(ids[query], ids[document], index)
            for index, (query, document) in sharing_interpreter(zip(indices, checked, strict=True))
        ]

    def encode_parts(
        self,
        query: str,
        documents: Sequence[str],
        indices: Sequence[int] | None = None,
        max_parts: int | None = None,
    ) -> list[list[EncodedPair]]:
        """Encode each document in as many overlapping parts as it needs, each with the whole query.

        Args:
            query: a string.
            documents: strings.
            indices: index of each document in the caller's input, for errors; by default 0, 1, ..
            max_parts: maximum number of parts of a document; the last part then records how much of the document's end
                is left out.

        Raises:
            InputError: the query leaves no room for MINIMUM_PART tokens of a document that needs parts.
        """
        query_ids, *ids_of_documents = self._tokenise([query, *documents])
        room = self.max_length - len(self._template) - len(query_ids)
        indices = range(len(documents)) if indices is None else indices
        parts = []
        for index, ids in sharing_interpreter(zip(indices, ids_of_documents, strict=True)):
            if len(ids) > room and room < MINIMUM_PART:
                raise InputError(
                    f"document {index} needs parts, but with the query's {len(query_ids)} tokens max_length "
                    f"{self.max_length} leaves {max(0, room)} per part, and the minimum is {MINIMUM_PART}; shorten the "
                    "query or raise max_length",
                    index=index,
                    room=max(0, room),
                    minimum=MINIMUM_PART,
                )
            spans = overlapping_spans(len(ids), room)[:max_parts]
            if spans[-1][1] < len(ids) and self.truncation == "error":
                raise InputError(
                    f"document {index} has tokens beyond {counted(len(spans), 'part')}, and truncation is 'error'; "
                    "raise max_parts, or choose another truncation",
                    argument="max_parts",
                    index=index,
                )
            joined = [self._join(query_ids, ids[start:end], index) for start, end in spans]
            joined[-1] = EncodedPair(joined[-1].ids, document_tokens_cut=len(ids) - spans[-1][1])
            parts.append(joined)
        return parts

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, a few at a time: what another caller gives the tokenizer waits only for these."""
        ids: list[list[int]] = []
        sizes = [len(text) for text in texts]
        # A few short texts take less time than the tokenizer's threads take to start on them.
        for start, end in _slices(sizes, 0 if sum(sizes) <= FEW_CHARACTERS else self._characters_at_once):
            encodings = self._tokenizer.encode_batch_fast(texts[start:end], add_special_tokens=False)
            ids += [encoding.ids for encoding in encodings]
        return ids

    def _join(self, query: list[int], document: list[int], index: int) -> EncodedPair:
        room = self.max_length - len(self._template)
        query_length, document_length = len(query), len(document)
        if query_length + document_length > room:
            tokens = query_length + document_length + len(self._template)
            name = f"pair {index} has {tokens} tokens, but max_length is {self.max_length}"
            pair = TooLong(query_length, document_length, room, name, index)
            query_length, document_length = POLICIES[self.truncation](pair)
        template = self._template
        kept_query, kept_document = cut(query, query_length, self._side), cut(document, document_length, self._side)
        ids = [*template.before, *kept_query, *template.between, *kept_document, *template.after]
        return EncodedPair(np.array(ids, np.int64), len(query) - query_length, len(document) - document_length)


def _slices(sizes: Sequence[int], budget: int) -> Iterator[tuple[int, int]]:
    """Consecutive spans ``(start, end)`` of at most ``budget`` in all, or of a single larger one.

    >>> list(_slices([3, 3, 9, 1], budget=6))
    [(0, 2), (2, 3), (3, 4)]
    """
    start = total = 0
    for at, size in enumerate(sizes):
        if at > start and total + size > budget:
            yield start, at
            start, total = at, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def load_tokenizer(file: Path, vocabulary: int | None = None) -> Tokenizer:
    """Load ``tokenizer.json`` with its embedded padding and truncation switched off.

    Raises:
        ArtifactError: the file cannot be parsed, or has ids beyond an embedding table of ``vocabulary`` rows.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception, with the reason as text
        raise ArtifactError(f"`tokenizers` cannot load {file} ({error})", path=file) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if vocabulary is not None and largest >= vocabulary:
        raise ArtifactError(
            f"{file} has token ids up to {largest}, but the model's embedding table has only {vocabulary} rows; "
            "the tokenizer and the weights belong to different models",
            path=file,
            largest=largest,
            rows=vocabulary,
        )
    return tokenizer


def _find_template(tokenizer: Tokenizer, file: Path) -> _Template:
    """Find the special tokens around a pair: encode two marks and find their positions."""
    first, second = (tokenizer.encode(mark, add_special_tokens=False) for mark in ("a", "b"))
    ids = tokenizer.encode("a", "b").ids
    if len(first.ids) != 1 or len(second.ids) != 1 or ids.count(first.ids[0]) != 1 or ids.count(second.ids[0]) != 1:
        raise ArtifactError(
            f"{file} does not encode a pair as special tokens around two texts, which modernrank requires", path=file
        )
    at_first, at_second = ids.index(first.ids[0]), ids.index(second.ids[0])
    if at_first > at_second:
        raise ArtifactError(
            f"{file} puts the second text of a pair first, which modernrank does not support", path=file
        )
    return _Template(ids[:at_first], ids[at_first + 1 : at_second], ids[at_second + 1 :])

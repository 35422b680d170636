"""Turn (query, document) pairs into token ids, cut exactly as ``transformers`` cuts them.

    [CLS] query [SEP] document [SEP]

``tokenizer.json`` may embed padding and truncation (the target's pads every text to 8,000 tokens). Both are switched
off here, once. The tokenizer never changes afterwards, so several threads may encode at the same time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from tokenizers import Encoding, Tokenizer

from modernrank.arrays import IntArray
from modernrank.errors import ArtifactError, InputError, counted
from modernrank.host import available_threads, sharing_interpreter
from modernrank.options import SideChoice, TextLimits, TruncationChoice, check_choice

from .checks import Pair, as_pair, as_single_text, check_text
from .long_documents import MINIMUM_PART, overlapping_spans
from .template import Template, find_template
from .truncation import POLICIES, TooLong, check_call_tokens, cut

# The texts that the tokenizer receives at once, for each of its threads: some milliseconds of work.
CHARACTERS_PER_THREAD = 16_384
FEW_CHARACTERS = 2_048


@dataclass(frozen=True)
class EncodedPair:
    """Token ids of one pair, int64 ``[tokens]``, and how many tokens its query and its document lost to the limits.

    ``characters`` is the part of the document that is in the pair, as ``(start, end)`` in code points, where
    ``encode_parts`` was asked for it.
    """

    ids: IntArray
    query_tokens_cut: int = 0
    document_tokens_cut: int = 0
    characters: tuple[int, int] | None = None

    @property
    def tokens_cut(self) -> int:
        """The tokens that both parts lost."""
        return self.query_tokens_cut + self.document_tokens_cut


class PairEncoder:
    """Encodes pairs to at most ``max_length`` tokens.

    Args:
        tokenizer_file: a ``tokenizer.json``.
        max_length: maximum number of tokens in a pair, special tokens included.
        truncation: ``"longest_first"`` cuts the longer part first, token by token, as ``transformers`` does by default;
            ``"document"`` never cuts the query; ``"error"`` refuses a pair that is too long.
        truncation_side: ``"right"`` cuts the end of a part, ``"left"`` its beginning.
        vocabulary: number of rows of the model's embedding table; a tokenizer with ids beyond it is refused.
        splits_special_tokens: whether the text of a special token inside a query or a document is tokenised like any
            other text, instead of becoming that token.
        prompt: text to put before each query, which is part of it from then on.

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
        splits_special_tokens: bool = False,
        prompt: str = "",
    ) -> None:
        self._tokenizer = load_tokenizer(tokenizer_file, vocabulary, splits_special_tokens)
        self._template = find_template(self._tokenizer, tokenizer_file)
        self._file = tokenizer_file
        self._single: list[Template] = []  # found when the first single text comes; shared by all copies
        check_choice("truncation_side", truncation_side, SideChoice)
        self._characters_at_once = CHARACTERS_PER_THREAD * available_threads()
        self._set_limits(TextLimits(max_length, truncation, cast(SideChoice, truncation_side), prompt=prompt))

    @property
    def template(self) -> Template:
        """The special tokens around a pair."""
        return self._template

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in a pair, special tokens included."""
        return self.limits.max_length or 0

    @property
    def truncation(self) -> TruncationChoice:
        """What happens to a longer pair."""
        return self.limits.truncation or "longest_first"

    def with_limits(self, limits: TextLimits) -> PairEncoder:
        """The same encoder with other limits. It shares the tokenizer and costs almost nothing."""
        combined = self.limits | limits
        if combined == self.limits:
            return self
        other = copy.copy(self)
        other._set_limits(combined)
        return other

    def _set_limits(self, limits: TextLimits) -> None:
        minimum = max(1, len(self._template))
        if (limits.max_length or 0) < minimum:
            raise InputError(
                f"max_length {limits.max_length} leaves no room for the {len(self._template)} special tokens of a "
                "pair; raise it",
                argument="max_length",
                value=limits.max_length,
                minimum=minimum,
            )
        self.limits = limits
        self._side = limits.truncation_side or "right"
        self._prompt = check_text(limits.prompt or "", "prompt", argument="prompt")

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
        checked = [self._prompted(as_pair(pair, f"pair {index}", index=index)) for index, pair in numbered]
        texts = list(dict.fromkeys(text for pair in checked for text in pair))
        ids = dict(zip(texts, self._token_ids(texts), strict=True))
        return [
            self._join(ids[query], ids[document], index)
            for index, (query, document) in sharing_interpreter(zip(indices, checked, strict=True))
        ]

    def _prompted(self, pair: Pair) -> Pair:
        return (f"{self._prompt}{pair[0]}", pair[1]) if self._prompt else pair

    def encode_texts(self, texts: Sequence[object], indices: Sequence[int] | None = None) -> list[EncodedPair]:
        """Encode single texts. What a text loses counts as ``document_tokens_cut``.

        Args:
            texts: strings.
            indices: index of each text in the caller's input, for errors; by default 0, 1, ..

        Raises:
            InputError: a text is not a string, is not valid Unicode, or is too long for ``truncation``.
            ArtifactError: the tokenizer encodes a text as something else than special tokens around it.
        """
        template = self._single_template()
        indices = range(len(texts)) if indices is None else indices
        numbered = sharing_interpreter(zip(indices, texts, strict=True))
        checked = [f"{self._prompt}{as_single_text(text, f'text {index}', index=index)}" for index, text in numbered]
        distinct = list(dict.fromkeys(checked))
        ids = dict(zip(distinct, self._token_ids(distinct), strict=True))
        encoded = []
        for index, text in sharing_interpreter(zip(indices, checked, strict=True)):
            kept = self._cut_text(ids[text], self.max_length - len(template), index)
            joined = np.array(template.join(kept), np.int64)
            encoded.append(EncodedPair(joined, document_tokens_cut=len(ids[text]) - len(kept)))
        return encoded

    def _single_template(self) -> Template:
        if not self._single:
            self._single.append(find_template(self._tokenizer, self._file, texts=1))
        return self._single[0]

    def _cut_text(self, ids: list[int], room: int, index: int) -> list[int]:
        """What remains of a single text, which the policies treat as the document of an empty query."""
        length = _at_most(len(ids), self.limits.max_document_tokens)
        if length > room:
            name = f"text {index} has {length + self.max_length - room} tokens, but max_length is {self.max_length}"
            _, length = POLICIES[self.truncation](TooLong(0, length, max(0, room), name, index))
        return cut(ids, length, self._side)

    def encode_parts(
        self,
        query: str,
        documents: Sequence[str],
        indices: Sequence[int] | None = None,
        max_parts: int | None = None,
        part_tokens: int | None = None,
        with_characters: bool = False,
    ) -> list[list[EncodedPair]]:
        """Encode each document in as many overlapping parts as it needs, each with the whole query.

        Args:
            query: a string.
            documents: strings.
            indices: index of each document in the caller's input, for errors; by default 0, 1, ..
            max_parts: maximum number of parts of a document; the last part then records how much of the document's end
                is left out.
            part_tokens: maximum number of a document's tokens in a part; by default what ``max_length`` leaves.
            with_characters: whether each part says which characters it holds, which takes somewhat longer.

        Raises:
            InputError: the query leaves no room for MINIMUM_PART tokens of a document that needs parts.
        """
        all_query_ids = self._token_ids([f"{self._prompt}{query}"])[0]
        query_ids = cut(all_query_ids, _at_most(len(all_query_ids), self.limits.max_query_tokens), self._side)
        left = self.max_length - len(self._template) - len(query_ids)
        room = left if part_tokens is None else min(left, part_tokens)
        tokenise = self._encoded if with_characters else self._fast_encoded
        indices = range(len(documents)) if indices is None else indices
        parts, planned = [], 0
        for index, document, encoding in sharing_interpreter(zip(indices, documents, tokenise(documents), strict=True)):
            all_ids = encoding.ids
            ids = cut(all_ids, _at_most(len(all_ids), self.limits.max_document_tokens), self._side)
            if len(ids) > room:
                self._check_room(room, len(query_ids), index)
            spans = overlapping_spans(len(ids), room)[:max_parts]
            self._check_complete(spans, len(ids), index)
            planned += len(spans) * (len(query_ids) + len(self._template)) + sum(end - start for start, end in spans)
            check_call_tokens(self.limits, planned, index + 1, "document")
            before = len(all_ids) - len(ids) if self._side == "left" else 0
            offsets = encoding.offsets[before : before + len(ids)] if with_characters else []
            joined = [
                replace(self._join(query_ids, ids[start:end], index), characters=_extent(document, offsets[start:end]))
                for start, end in spans
            ]
            joined[-1] = replace(
                joined[-1],
                query_tokens_cut=len(all_query_ids) - len(query_ids),
                document_tokens_cut=len(all_ids) - spans[-1][1],
            )
            parts.append(joined)
        return parts

    def _check_complete(self, spans: list[tuple[int, int]], tokens: int, index: int) -> None:
        if spans[-1][1] < tokens and self.truncation == "error":
            raise InputError(
                f"document {index} has tokens beyond {counted(len(spans), 'part')}, and truncation is 'error'; "
                "raise max_parts, or choose another truncation",
                argument="max_parts",
                index=index,
            )

    def _check_room(self, room: int, query_tokens: int, index: int) -> None:
        if room < MINIMUM_PART:
            raise InputError(
                f"document {index} needs parts, but with the query's {query_tokens} tokens max_length "
                f"{self.max_length} leaves {max(0, room)} per part, and the minimum is {MINIMUM_PART}; shorten the "
                "query or raise max_length",
                index=index,
                room=max(0, room),
                minimum=MINIMUM_PART,
            )

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._fast_encoded(texts)]

    def _fast_encoded(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """Each text, without the positions of its tokens in it."""
        return self._in_slices(self._tokenizer.encode_batch_fast, texts)

    def _encoded(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """Each text, with the positions of its tokens in it."""
        return self._in_slices(self._tokenizer.encode_batch, texts)

    def _in_slices(self, encode: Callable[..., list[Encoding]], texts: Sequence[str]) -> Iterator[Encoding]:
        """Encode a few texts at a time: what another caller gives the tokenizer waits only for these."""
        sizes = [len(text) for text in texts]
        # A few short texts take less time than the tokenizer's threads take to start on them.
        for start, end in _slices(sizes, 0 if sum(sizes) <= FEW_CHARACTERS else self._characters_at_once):
            yield from encode(texts[start:end], add_special_tokens=False)

    def _join(self, query: list[int], document: list[int], index: int) -> EncodedPair:
        room = self.max_length - len(self._template)
        query_length = _at_most(len(query), self.limits.max_query_tokens)
        document_length = _at_most(len(document), self.limits.max_document_tokens)
        if query_length + document_length > room:
            tokens = query_length + document_length + len(self._template)
            name = f"pair {index} has {tokens} tokens, but max_length is {self.max_length}"
            pair = TooLong(query_length, document_length, room, name, index)
            query_length, document_length = POLICIES[self.truncation](pair)
        kept_query, kept_document = cut(query, query_length, self._side), cut(document, document_length, self._side)
        ids = self._template.join(kept_query, kept_document)
        if not ids:
            raise InputError(
                f"pair {index} has no tokens: neither text has any, and the tokenizer puts no special tokens around "
                "them; leave the pair out",
                index=index,
            )
        return EncodedPair(np.array(ids, np.int64), len(query) - query_length, len(document) - document_length)


def _at_most(tokens: int, maximum: int | None) -> int:
    """How many tokens of a text its own limit keeps."""
    return tokens if maximum is None else min(tokens, maximum)


def _extent(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The characters of tokens at ``offsets``, without the white space at their ends; None for no tokens.

    >>> _extent("one two", [(3, 5), (5, 7)])
    (4, 7)
    """
    if not offsets:
        return None
    start, end = offsets[0][0], offsets[-1][1]
    kept = text[start:end]
    return (start + len(kept) - len(kept.lstrip()), start + len(kept.rstrip())) if kept.strip() else (start, end)


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


def load_tokenizer(file: Path, vocabulary: int | None = None, splits_special_tokens: bool = False) -> Tokenizer:
    """Load ``tokenizer.json`` with its embedded padding and truncation switched off.

    With ``splits_special_tokens`` the text of a special token inside a text is tokenised like any other.

    Raises:
        ArtifactError: the file cannot be parsed, or has ids beyond an embedding table of ``vocabulary`` rows.
    """
    tokenizer = parse_tokenizer(file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = splits_special_tokens
    if vocabulary is not None:
        _check_rows(tokenizer, file, vocabulary)
    return tokenizer


def _check_rows(tokenizer: Tokenizer, file: Path, vocabulary: int) -> None:
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest >= vocabulary:
        raise ArtifactError(
            f"{file} has token ids up to {largest}, but the model's embedding table has only {vocabulary} rows; "
            "the tokenizer and the weights belong to different models. Copy the tokenizer.json of this model beside "
            "its weights",
            path=file,
            largest=largest,
            rows=vocabulary,
        )


def parse_tokenizer(file: Path) -> Tokenizer:
    """Load ``tokenizer.json`` as it is.

    Raises:
        ArtifactError: the file cannot be parsed.
    """
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception, with the reason as text
        raise ArtifactError(f"`tokenizers` cannot load {file} ({error})", path=file) from error

"""Texts as training sees them: tokens, and for each token its word and the stem of that word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from .stems import stem

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Text:
    """A text's tokens, three int64 arrays ``[tokens]``.

    Attributes:
        ids: The token ids, without special tokens.
        stems: The number of the stem of the token's word; 0 for stop words and signs, which BM25 ignores.
        words: The position of the token's word in the text.
    """

    ids: IntArray
    stems: IntArray
    words: IntArray

    def __getitem__(self, selection: slice | BoolArray) -> Text:
        """Return some of the tokens: a slice, or those for which a bool array ``[tokens]`` is true."""
        return Text(self.ids[selection], self.stems[selection], self.words[selection])

    def distinct_stems(self) -> IntArray:
        """Return the numbers of the text's stems ``[stems]``, ascending and without 0.

        >>> array = np.array
        >>> Text(array([9, 5, 9]), array([2, 0, 2]), array([0, 1, 2])).distinct_stems()
        array([2])
        """
        return np.unique(self.stems[self.stems > 0])


Pair = tuple[Text, Text]  # a query and a document


def concatenate(texts: Sequence[Text]) -> Text:
    """Return one text of the texts' tokens, in their order."""
    return Text(
        np.concatenate([text.ids for text in texts]),
        np.concatenate([text.stems for text in texts]),
        np.concatenate([text.words for text in texts]),
    )


class Encoder:
    """Turns strings into texts. Texts of the same encoder have the same numbers for the same stems."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._number_of_word: dict[str, int] = {}
        self._number_of_stem: dict[str, int] = {}

    def __call__(self, strings: Sequence[str]) -> list[Text]:
        """Encode each string, without special tokens and whole."""
        encodings = self.tokenizer.encode_batch(strings, add_special_tokens=False)
        texts = []
        for string, encoding in zip(strings, encodings, strict=True):
            # The tokenizer gives a special token the word None. The strict zip below fails if there should be one.
            words = [word for word in encoding.word_ids if word is not None]
            spans: dict[int, tuple[int, int]] = {}
            for word, (start, end) in zip(words, encoding.offsets, strict=True):
                spans[word] = (spans.get(word, (start, end))[0], end)
            numbers = {word: self._number(string[start:end]) for word, (start, end) in spans.items()}
            stems = [numbers[word] for word in words]
            texts.append(Text(*(np.array(values, dtype=np.int64) for values in (encoding.ids, stems, words))))
        return texts

    def _number(self, word: str) -> int:
        if word not in self._number_of_word:
            root = stem(word.strip())
            number = 0 if root is None else self._number_of_stem.setdefault(root, len(self._number_of_stem) + 1)
            self._number_of_word[word] = number
        return self._number_of_word[word]

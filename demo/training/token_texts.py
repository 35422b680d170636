"""Texts as training sees them: tokens, and the words that they are of; and BM25's score of any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from .stems import stem


@dataclass(frozen=True)
class Text:
    """Token ids, and for each token its word.

    stems: the number of the word's stem: 0 for stop words and signs, which do not count.
    words: the place of the word in the text.
    """

    ids: np.ndarray
    stems: np.ndarray
    words: np.ndarray

    def __getitem__(self, kept: slice | np.ndarray) -> Text:
        """Some of the tokens: a slice of them, or those for which an array is true."""
        return Text(self.ids[kept], self.stems[kept], self.words[kept])

    def kinds(self) -> np.ndarray:
        """The stems that count, each once."""
        return np.unique(self.stems[self.stems > 0])


Pair = tuple[Text, Text]


def joined(texts: Sequence[Text]) -> Text:
    """The texts one after the other."""
    return Text(*(np.concatenate([getattr(text, name) for text in texts]) for name in ("ids", "stems", "words")))


class Encoder:
    """Makes :class:`Text` of strings."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._numbers: dict[str, int] = {}  # of words; words of one stem have the same
        self._stems: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[Text]:
        """Each text without special tokens."""
        found = []
        for text, encoding in zip(texts, self.tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
            # Special tokens alone are of no word, and there are none: the strict zip below would fail on them.
            words = [word for word in encoding.word_ids if word is not None]
            spans: dict[int, tuple[int, int]] = {}
            for word, (start, end) in zip(words, encoding.offsets, strict=True):
                spans[word] = (spans.get(word, (start, end))[0], end)
            numbers = {word: self._number(text[start:end]) for word, (start, end) in spans.items()}
            found.append(Text(*map(np.array, (encoding.ids, [numbers[word] for word in words], words))))
        return found

    def _number(self, word: str) -> int:
        if word not in self._numbers:
            root = stem(word.strip())
            self._numbers[word] = 0 if root is None else self._stems.setdefault(root, len(self._stems) + 1)
        return self._numbers[word]

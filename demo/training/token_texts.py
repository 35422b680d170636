"""Texts as training sees them: tokens, and the words that they are of; and BM25's score of any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from .bm25_candidates import stem

K1, B = 1.5, 0.75  # bm25s's


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


class Bm25:
    """BM25's score (Lucene's variant) of any pair, whole, cut, or with words hidden; a word counts once in a query.

    How rare words are, and how long documents, is what ``documents`` tell. Of a pair, ``longest`` tokens are seen.
    """

    def __init__(self, documents: Sequence[Text], longest: int) -> None:
        frequency = np.bincount(np.concatenate([document.kinds() for document in documents]))
        self._rarity = np.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
        self._rarest = np.log(1 + (len(documents) + 0.5) / 0.5)  # of a word that no document has
        self._length = np.mean([(document.stems > 0).sum() for document in documents])
        self._longest = longest

    def __call__(self, query: Text, document: Text) -> float:
        """The score; 0 where no word is shared."""
        words = query.kinds()
        stems = document.stems[: self._longest - 3 - len(query.ids)]
        times = (stems == words[:, None]).sum(axis=1)
        known = words < len(self._rarity)
        rarity = np.where(known, self._rarity[np.where(known, words, 0)], self._rarest)
        norm = K1 * (1 - B + B * (stems > 0).sum() / self._length)
        return float((rarity * times / (times + norm)).sum())

"""BM25's score of any two texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .token_texts import Text

K1, B = 1.5, 0.75  # bm25s's


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

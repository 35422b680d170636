"""BM25's score of any query and document, whole or changed: what the model learns to predict in stages 3 and 5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .token_texts import Text

K1, B = 1.5, 0.75  # the defaults of bm25s
SPECIAL_TOKENS = 3  # number in a pair


class Bm25:
    """BM25's score of a pair, in Lucene's variant. A word that a query repeats counts once.

    The score of a text that was cut, or that lost words, is that of the tokens that remain.
    """

    def __init__(self, documents: Sequence[Text], max_tokens: int) -> None:
        """Count words.

        Args:
            documents: The documents that say how rare each word is, and how long a document is on average.
            max_tokens: The number of a pair's tokens that the model sees; the score ignores the document's others.
        """
        frequency = np.bincount(np.concatenate([document.distinct_stems() for document in documents]))
        self._rarity = np.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
        self._max_rarity = np.log(1 + (len(documents) + 0.5) / 0.5)  # the rarity of a word that no document has
        self._mean_length = np.mean([(document.stems > 0).sum() for document in documents])
        self._max_tokens = max_tokens

    def __call__(self, query: Text, document: Text) -> float:
        """Return the score, 0 if the texts share no word.

        >>> text = Text(*np.array([[7, 8], [1, 2], [0, 1]]))
        >>> round(Bm25([text, text[:1]], max_tokens=128)(text[1:], text), 4)
        0.2411
        """
        query_stems = query.distinct_stems()
        stems = document.stems[: self._max_tokens - SPECIAL_TOKENS - len(query.ids)]
        counts = (stems == query_stems[:, None]).sum(axis=1)
        known = query_stems < len(self._rarity)
        rarity = np.where(known, self._rarity[np.where(known, query_stems, 0)], self._max_rarity)
        norm = K1 * (1 - B + B * (stems > 0).sum() / self._mean_length)
        return float((rarity * counts / (counts + norm)).sum())

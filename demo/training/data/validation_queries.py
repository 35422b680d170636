"""The validation queries, which choose the weights to keep and refit the classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bm25_candidates import Topic, ndcg_at_10, needs_more_than_words, retrieve
from .debian_packages import Package
from .token_texts import Encoder, Pair

SAMPLE = 400


class ValidationQueries:
    """The queries of the validation split for which a search for their words does not suffice.

    Attributes:
        topics: The queries, in random order. The classifier is refitted to all of them.
        sample: The first 400, which choose the weights to keep.
    """

    def __init__(self, packages: Sequence[Package], encode: Encoder, max_queries: int | None, seed: int) -> None:
        """Retrieve the candidates.

        Args:
            packages: The packages of the validation split.
            encode: Encodes queries and documents.
            max_queries: The maximum number of queries; None keeps all.
            seed: The seed of the order, and so of the choice.
        """
        self._queries = encode([package.query for package in packages])
        self._documents = encode([package.document for package in packages])
        topics = retrieve(packages)
        harder = [topics[i] for i, package in enumerate(packages) if needs_more_than_words(package)]
        order = np.random.default_rng(seed).permutation(len(harder))[:max_queries]
        self.topics = [harder[i] for i in order]
        self.sample = self.topics[:SAMPLE]

    def pairs(self, topic: Topic) -> list[Pair]:
        """Return the query with each of its candidates."""
        return [(self._queries[topic.own], self._documents[i]) for i in topic.candidates]

    def bm25_ndcg(self) -> float:
        """Return the mean nDCG@10 of the candidates in BM25's order, on the sample."""
        return float(np.mean([ndcg_at_10(topic, range(len(topic.candidates))) for topic in self.sample]))

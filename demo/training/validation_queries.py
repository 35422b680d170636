"""The validation split: the queries that tell which weights are best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bm25_candidates import Topic, is_more_than_words, ndcg, topics
from .debian_packages import Entry
from .token_texts import Encoder, Pair

FEW = 400


class Checks:
    """The queries of the validation split that are reranked, ``most`` at most, and the few of them now and then."""

    def __init__(self, entries: Sequence[Entry], encode: Encoder, most: int | None, seed: int) -> None:
        self.queries, self.documents = encode([e.query for e in entries]), encode([e.document for e in entries])
        harder: list[Topic] = [t for t, e in zip(topics(entries), entries, strict=True) if is_more_than_words(e)]
        chosen = np.random.default_rng(seed).permutation(len(harder))[:most]
        self.topics = [harder[i] for i in chosen]
        self.few = self.topics[:FEW]

    def pairs(self, topic: Topic) -> list[Pair]:
        """The query with each of its candidates."""
        return [(self.queries[topic.own], self.documents[place]) for place in topic.found]

    def of_bm25(self) -> float:
        """nDCG@10 of the order in which BM25 found the candidates, for the few."""
        return float(np.mean([ndcg(topic, range(len(topic.found))) for topic in self.few]))

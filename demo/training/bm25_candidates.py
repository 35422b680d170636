"""What BM25 finds for each query: the candidates to rerank, and the hard negatives to learn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np

from .debian_packages import Entry
from .stems import STEMMER, stemmed_words

CANDIDATES = 50
# A query is kept for validation and test if its document has at most this share of its words: the others need no
# reranker, as BM25 finds 92 % of what there is to find for them.
MOST_SHARED = 2 / 3


@dataclass(frozen=True)
class Topic:
    """A query over the documents of its split, which are given by their places in it.

    ``own`` is the document of the query's package, ``relevant`` those of all packages with this very synopsis, and
    ``found`` what BM25 found, best first.
    """

    query: str
    own: int
    relevant: frozenset[int]
    found: tuple[int, ...]

    @property
    def negatives(self) -> list[int]:
        """The candidates that are not relevant, best first."""
        return [place for place in self.found if place not in self.relevant]


def topics(entries: Sequence[Entry]) -> list[Topic]:
    """The topic of each entry. BM25 is Lucene's; English stop words are left out, words are stemmed."""
    places: dict[str, set[int]] = defaultdict(set)
    for place, entry in enumerate(entries):
        places[entry.query].add(place)
    index = bm25s.BM25()
    index.index(_tokens([entry.document for entry in entries]), show_progress=False)
    queries = _tokens([entry.query for entry in entries])
    found, scores = index.retrieve(queries, k=CANDIDATES, show_progress=False, n_threads=2)
    return [
        Topic(entry.query, place, frozenset(places[entry.query]), tuple(f[s > 0].tolist()))
        for place, (entry, f, s) in enumerate(zip(entries, np.asarray(found), np.asarray(scores), strict=True))
    ]


def is_more_than_words(entry: Entry) -> bool:
    """Whether the document lacks enough of the query's words that finding these is not all there is to it."""
    return shared_words(entry) <= MOST_SHARED


def shared_words(entry: Entry) -> float:
    """The share of the query's words that stand in the document."""
    query = stemmed_words(entry.query)
    return len(query & stemmed_words(entry.document)) / max(1, len(query))


def ndcg(topic: Topic, order: Sequence[int]) -> float:
    """nDCG@10 of the candidates in ``order``; what BM25 did not find counts as missed."""
    gain = sum(1 / np.log2(rank + 2) for rank, i in enumerate(order[:10]) if topic.found[i] in topic.relevant)
    return float(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(topic.relevant)))))


def _tokens(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=STEMMER, show_progress=False)

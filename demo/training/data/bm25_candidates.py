"""The documents that BM25 retrieves for each query: the candidates to rerank, and the hard negatives to train on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np

from .debian_packages import Package
from .stems import STEMMER, distinct_stems

CANDIDATES = 50
# Validation and test keep the queries whose document has at most this share of their words. The other queries need no
# reranker: the nDCG@10 of BM25's order is 0.92 on those of the test split.
MAX_SHARED = 2 / 3


@dataclass(frozen=True)
class Topic:
    """A query, its relevant documents and its candidates. A document is its position among the packages of the split.

    Attributes:
        query: The query's text.
        own: The document of the query's package.
        relevant: The documents of all packages with this very synopsis.
        candidates: The documents that BM25 retrieves, best first.
    """

    query: str
    own: int
    relevant: frozenset[int]
    candidates: tuple[int, ...]

    @property
    def negatives(self) -> list[int]:
        """The candidates that are not relevant, best first."""
        return [document for document in self.candidates if document not in self.relevant]


def retrieve(packages: Sequence[Package]) -> list[Topic]:
    """Retrieve candidates among the packages' documents for each package's query.

    BM25 is Lucene's variant, as bm25s implements it. English stop words are left out, and words are stemmed.

    Returns:
        One topic for each package, in the same order. A topic has at most 50 candidates, all of a score above 0.
    """
    relevant: dict[str, set[int]] = defaultdict(set)
    for position, package in enumerate(packages):
        relevant[package.query].add(position)
    index = bm25s.BM25()
    index.index(_tokenize([package.document for package in packages]), show_progress=False)
    queries = _tokenize([package.query for package in packages])
    results = index.retrieve(queries, k=CANDIDATES, show_progress=False, n_threads=2)
    documents, scores = (np.asarray(result) for result in results)  # both [packages, CANDIDATES]
    return [
        Topic(package.query, own, frozenset(relevant[package.query]), tuple(documents[own][scores[own] > 0].tolist()))
        for own, package in enumerate(packages)
    ]


def needs_more_than_words(package: Package) -> bool:
    """Whether the document has so few of the query's words that a search for them does not suffice."""
    return shared_words(package) <= MAX_SHARED


def shared_words(package: Package) -> float:
    """Return the share of the query's words, by stem, that the document has.

    >>> shared_words(Package("mpc", "mpc", "client for music", "This program is one of the clients of MPD."))
    0.5
    """
    query = distinct_stems(package.query)
    return len(query & distinct_stems(package.document)) / max(1, len(query))


def ndcg_at_10(topic: Topic, order: Sequence[int]) -> float:
    """Return nDCG@10 of the candidates in an order. A relevant document that BM25 missed counts as missed.

    Args:
        topic: The query.
        order: Indices into ``topic.candidates``, best first.

    >>> ndcg_at_10(Topic("music", 7, frozenset({7}), (3, 7)), [1, 0])
    1.0
    """
    gain = sum(1 / np.log2(rank + 2) for rank, i in enumerate(order[:10]) if topic.candidates[i] in topic.relevant)
    return float(gain / sum(1 / np.log2(rank + 2) for rank in range(min(10, len(topic.relevant)))))


def _tokenize(texts: Sequence[str]) -> bm25s.tokenization.Tokenized:
    return bm25s.tokenize(list(texts), stopwords="en", stemmer=STEMMER, show_progress=False)

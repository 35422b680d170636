"""Pairs as tensors, and what training asks of them: random tokens to match first, then lists of texts to rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .bm25_candidates import Topic
from .bm25_score import Bm25
from .small_modernbert import SPECIAL, VOCABULARY
from .token_texts import Pair, Text, joined

LEAST_HIDDEN, MOST_HIDDEN = 0.2, 0.8  # of a query's words
# Made-up queries: phrases, words of a phrase, tokens; and tokens of the documents.
MOST_PHRASES, MOST_WORDS, MOST_TOKENS = 5, 3, 24
SHORTEST_CUT, LONGEST_CUT = 32, 112


@dataclass(frozen=True)
class Pool:
    """Topics with their texts, and which of them need more than their words found."""

    topics: Sequence[Topic]
    harder: Sequence[bool]
    queries: Sequence[Text]
    documents: Sequence[Text]


@dataclass(frozen=True)
class Mixture:
    """What lists are made of.

    easy: with what chance an epoch has a query that needs no more than its words found.
    hiding: of how many lists, as a share, the documents have words of the query hidden.
    """

    easy: float
    hiding: float


@dataclass(frozen=True)
class Lists:
    """A step's pairs, list by list: a query's own document, then others.

    bm25: BM25's scores, float32 ``[lists, documents]``.
    whole: bool ``[lists]``, false where words are hidden.
    """

    pairs: list[Pair]
    bm25: torch.Tensor
    whole: torch.Tensor


def random_pairs(count: int, rng: np.random.Generator) -> list[Pair]:
    """Texts of random tokens, each its own word, of which the second repeats some of the first."""
    pairs = []
    longest = rng.integers(16, 64)
    for _ in range(count):
        query = rng.integers(len(SPECIAL), VOCABULARY, rng.integers(3, 13))
        document = rng.integers(len(SPECIAL), VOCABULARY, rng.integers(longest // 2, longest))
        copied = rng.random(len(document)) < rng.random() * 0.6
        document = np.where(copied, rng.choice(query, len(document)), document)
        pairs.append((Text(query, query, query), Text(document, document, document)))
    return pairs


def ranking_lists(
    pools: Sequence[Pool], bm25: Bm25, mixture: Mixture, lists: int, negatives: int, rng: np.random.Generator
) -> Iterator[Lists]:
    """Without end, ``lists`` times a query's own document and ``negatives`` of BM25's.

    An epoch has each query once, however many packages have it.
    """
    usable = [
        (pool, topic, (1 if harder else mixture.easy) / len(topic.relevant))
        for pool in pools
        for topic, harder in zip(pool.topics, pool.harder, strict=True)
        if len(topic.negatives) >= negatives
    ]
    chances = np.array([chance for _, _, chance in usable])
    while True:
        order = rng.permutation(np.flatnonzero(rng.random(len(usable)) < chances))
        for first in range(0, len(order) - lists + 1, lists):
            pairs: list[Pair] = []
            whole = []
            for pool, topic, _ in (usable[i] for i in order[first : first + lists]):
                chosen = [topic.own, *rng.choice(topic.negatives, negatives, replace=False)]
                query, documents = pool.queries[topic.own], [pool.documents[place] for place in chosen]
                whole.append(rng.random() >= mixture.hiding)
                if not whole[-1]:
                    documents = _hide(query, documents, rng)
                pairs += [(query, document) for document in documents]
            yield _scored(pairs, bm25, whole)


def made_up_lists(
    pools: Sequence[Pool], bm25: Bm25, lists: int, documents: int, rng: np.random.Generator
) -> Iterator[Lists]:
    """Without end, ``lists`` times documents that BM25 found together, cut, for phrases drawn from all of these."""
    usable = [(pool, topic) for pool in pools for topic in pool.topics if len(topic.found) >= documents]
    while True:
        pairs: list[Pair] = []
        for _ in range(lists):
            pool, topic = usable[rng.integers(len(usable))]
            places = rng.choice(topic.found, documents, replace=False)
            cuts = [_cut(pool.documents[place], rng) for place in places]
            phrases = [_phrase(cuts[rng.integers(documents)], rng) for _ in range(rng.integers(1, MOST_PHRASES + 1))]
            query = joined(phrases)[:MOST_TOKENS]
            pairs += [(query, document) for document in cuts]
        yield _scored(pairs, bm25, [True] * lists)


def _scored(pairs: list[Pair], bm25: Bm25, whole: Sequence[bool]) -> Lists:
    scores = torch.tensor([bm25(query, document) for query, document in pairs], dtype=torch.float32)
    return Lists(pairs, scores.view(len(whole), -1), torch.tensor(whole))


def _cut(text: Text, rng: np.random.Generator) -> Text:
    size = int(rng.integers(SHORTEST_CUT, LONGEST_CUT + 1))
    first = int(rng.integers(max(1, len(text.ids) - size + 1)))
    return text[first : first + size]


def _phrase(text: Text, rng: np.random.Generator) -> Text:
    """Some words in a row, of which the first counts where any does."""
    counting = np.flatnonzero(text.stems > 0)
    first = text.words[rng.choice(counting)] if len(counting) else text.words[0]
    return text[(text.words >= first) & (text.words < first + rng.integers(1, MOST_WORDS + 1))]


def _hide(query: Text, documents: Sequence[Text], rng: np.random.Generator) -> list[Text]:
    """The documents without some of the query's words, so that those that say the same otherwise must be found.

    Documents that lose fewer tokens thereby lose about as many by other words, so that gaps tell nothing.
    """
    words = query.kinds()
    hidden = words[rng.random(len(words)) < rng.uniform(LEAST_HIDDEN, MOST_HIDDEN)]
    gone = [np.isin(document.stems, hidden) for document in documents]
    most = max(int(lost.sum()) for lost in gone)
    found = []
    for document, lost in zip(documents, gone, strict=True):
        others, counts = np.unique(
            document.stems[(document.stems > 0) & ~np.isin(document.stems, words)], return_counts=True
        )
        order = rng.permutation(len(others))
        enough = np.cumsum(counts[order]) <= most - lost.sum()
        found.append(document[~(lost | np.isin(document.stems, others[order][enough]))])
    return found

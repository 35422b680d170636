"""The examples of each step: pairs of random tokens for stage 2, lists of documents for stages 3 and 5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .data.bm25_candidates import Topic
from .data.bm25_score import Bm25
from .data.token_texts import IntArray, Pair, Text, concatenate
from .network.small_modernbert import SPECIAL, VOCABULARY
from .recipe import Mixture

MIN_HIDDEN, MAX_HIDDEN = 0.2, 0.8  # share of the query's words that lose their places in the documents
# Of a made-up query: phrases, words of a phrase, tokens of the query, and tokens of its documents.
MAX_PHRASES, MAX_PHRASE_WORDS, MAX_QUERY_TOKENS = 5, 3, 24
MIN_CUT, MAX_CUT = 32, 112


@dataclass(frozen=True)
class Pool:
    """Topics with their texts; position i of each sequence is of the same package.

    Attributes:
        topics: The queries and their candidates.
        harder: Whether a search for the query's words does not suffice.
        queries: The queries' texts.
        documents: The documents' texts.
    """

    topics: Sequence[Topic]
    harder: Sequence[bool]
    queries: Sequence[Text]
    documents: Sequence[Text]


@dataclass(frozen=True)
class Lists:
    """A step's pairs, list by list. All lists have the same number of documents.

    Attributes:
        pairs: The pairs; the first of a list has the query's own document.
        bm25: BM25's scores, float32 ``[lists, documents]``.
        whole: bool ``[lists]``, false if words of the query are hidden from the list's documents.
    """

    pairs: list[Pair]
    bm25: torch.Tensor
    whole: torch.Tensor


def random_pairs(count: int, rng: np.random.Generator) -> list[Pair]:
    """Draw pairs of random tokens. Each token is a word of its own; the document repeats some of the query's."""
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
    """Draw steps of lists without end: a query's own document, then negatives that BM25 retrieves for the query.

    An epoch has each query once, however many packages have it. The last step of an epoch, if incomplete, is left out.

    Args:
        pools: The queries and documents.
        bm25: Scores the pairs.
        mixture: How often a query is an easy one, and how often words are hidden.
        lists: The number of lists of a step.
        negatives: The number of negatives of a list. Queries that have fewer are left out.
        rng: The generator.
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
                query, documents = pool.queries[topic.own], [pool.documents[i] for i in chosen]
                whole.append(rng.random() >= mixture.hiding)
                if not whole[-1]:
                    documents = _hide_words(query, documents, rng)
                pairs += [(query, document) for document in documents]
            yield _with_scores(pairs, bm25, whole)


def made_up_lists(
    pools: Sequence[Pool], bm25: Bm25, lists: int, documents: int, rng: np.random.Generator
) -> Iterator[Lists]:
    """Draw steps of lists without end: cuts of documents that BM25 retrieves together, and a query of their phrases.

    Args:
        pools: The queries, which only group the documents here, and the documents.
        bm25: Scores the pairs.
        lists: The number of lists of a step.
        documents: The number of documents of a list. Queries that have fewer candidates are left out.
        rng: The generator.
    """
    usable = [(pool, topic) for pool in pools for topic in pool.topics if len(topic.candidates) >= documents]
    while True:
        pairs: list[Pair] = []
        for _ in range(lists):
            pool, topic = usable[rng.integers(len(usable))]
            chosen = rng.choice(topic.candidates, documents, replace=False)
            cuts = [_cut(pool.documents[i], rng) for i in chosen]
            phrases = [_phrase(cuts[rng.integers(documents)], rng) for _ in range(rng.integers(1, MAX_PHRASES + 1))]
            query = concatenate(phrases)[:MAX_QUERY_TOKENS]
            pairs += [(query, document) for document in cuts]
        yield _with_scores(pairs, bm25, [True] * lists)


def _with_scores(pairs: list[Pair], bm25: Bm25, whole: Sequence[bool]) -> Lists:
    scores = torch.tensor([bm25(query, document) for query, document in pairs], dtype=torch.float32)
    return Lists(pairs, scores.view(len(whole), -1), torch.tensor(whole))


def _cut(text: Text, rng: np.random.Generator) -> Text:
    """Return consecutive tokens of the text, of random number and place."""
    size = int(rng.integers(MIN_CUT, MAX_CUT + 1))
    first = int(rng.integers(max(1, len(text.ids) - size + 1)))
    return text[first : first + size]


def _phrase(text: Text, rng: np.random.Generator) -> Text:
    """Return some consecutive words. The first has a stem, unless no word of the text has one."""
    with_stem = np.flatnonzero(text.stems > 0)
    first = text.words[rng.choice(with_stem)] if len(with_stem) else text.words[0]
    return text[(text.words >= first) & (text.words < first + rng.integers(1, MAX_PHRASE_WORDS + 1))]


def _hide_words(query: Text, documents: Sequence[Text], rng: np.random.Generator) -> list[Text]:
    """Remove some of the query's words from the documents, so that other words must show which document answers it.

    A document that thereby loses fewer tokens than another loses about as many of other words, so that the number of
    missing tokens reveals nothing.
    """
    query_stems = query.distinct_stems()
    hidden = query_stems[rng.random(len(query_stems)) < rng.uniform(MIN_HIDDEN, MAX_HIDDEN)]
    removed = [np.isin(document.stems, hidden) for document in documents]
    max_removed = max(int(tokens.sum()) for tokens in removed)
    changed = []
    for document, tokens in zip(documents, removed, strict=True):
        others = _draw_stems(document, query_stems, max_removed - int(tokens.sum()), rng)
        changed.append(document[~(tokens | np.isin(document.stems, others))])
    return changed


def _draw_stems(document: Text, excluded: IntArray, max_tokens: int, rng: np.random.Generator) -> IntArray:
    """Draw stems of the document, none of the excluded, that together have at most ``max_tokens`` tokens."""
    eligible = document.stems[(document.stems > 0) & ~np.isin(document.stems, excluded)]
    stems, counts = np.unique(eligible, return_counts=True)
    order = rng.permutation(len(stems))
    return stems[order][np.cumsum(counts[order]) <= max_tokens]

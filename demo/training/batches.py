"""Pairs as tensors, and what training asks of them: random tokens to match first, then lists of texts to rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from candidates import Topic
from model import CLS, PAD, SEP, SPECIAL, VOCABULARY

MULTIPLE = 16  # widths, so that the kernels of few shapes are made
Pair = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class Part:
    """Some of a step's pairs: tensors ``[pairs, tokens]``.

    matched: 1 where a token of one text occurs in the other.
    weights: of that question; 0 for special tokens and padding.
    """

    places: np.ndarray
    ids: torch.Tensor
    mask: torch.Tensor
    matched: torch.Tensor
    weights: torch.Tensor


def parts(pairs: Sequence[Pair], longest: int, count: int) -> Iterator[Part]:
    """The pairs in ``count`` parts of like length, cut to ``longest`` tokens; ``places`` tells which they are."""
    pairs = [(query, document[: longest - 3 - len(query)]) for query, document in pairs]
    order = np.argsort([len(query) + len(document) for query, document in pairs])
    for places in np.array_split(order, count):
        width = 3 + sum(map(len, pairs[places[-1]]))
        shape = (len(places), -(-width // MULTIPLE) * MULTIPLE)
        ids, matched, weights = np.full(shape, PAD), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, place in enumerate(places):
            query, document = pairs[place]
            middle, end = 1 + len(query), 2 + len(query) + len(document)
            ids[row, : end + 1] = [CLS, *query, SEP, *document, SEP]
            matched[row, 1:middle] = np.isin(query, document)
            matched[row, middle + 1 : end] = np.isin(document, query)
            weights[row, 1:middle], weights[row, middle + 1 : end] = 3, 1  # there are fewer of the query's
        tensors = [torch.from_numpy(array) for array in (ids, (ids != PAD).astype(np.int64), matched, weights)]
        yield Part(places, *tensors)


def random_pairs(count: int, rng: np.random.Generator) -> list[Pair]:
    """Texts of random tokens, of which the second repeats some of the first."""
    pairs = []
    longest = rng.integers(16, 64)
    for _ in range(count):
        query = rng.integers(len(SPECIAL), VOCABULARY, rng.integers(3, 13))
        document = rng.integers(len(SPECIAL), VOCABULARY, rng.integers(longest // 2, longest))
        copied = rng.random(len(document)) < rng.random() * 0.6
        pairs.append((query, np.where(copied, rng.choice(query, len(document)), document)))
    return pairs


def ranking_lists(
    topics: Sequence[Topic],
    queries: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
    lists: int,
    negatives: int,
    rng: np.random.Generator,
) -> Iterator[list[Pair]]:
    """Without end, ``lists`` times a query's own document and ``negatives`` others: of BM25's, and one of any."""
    usable = [topic for topic in topics if len(topic.negatives) >= negatives]
    while True:
        order = rng.permutation(len(usable))
        for first in range(0, len(order) - lists + 1, lists):
            pairs: list[Pair] = []
            for topic in (usable[i] for i in order[first : first + lists]):
                hard = rng.choice(topic.negatives, negatives - 1, replace=False)
                chosen = [topic.own, *hard, rng.integers(len(documents))]
                pairs += [(queries[topic.own], documents[place]) for place in chosen]
            yield pairs

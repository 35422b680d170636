"""Pairs as tensors, and what training asks of them: random tokens to match first, then lists of texts to rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from candidates import Topic, stem
from model import CLS, PAD, SEP, SPECIAL, VOCABULARY
from tokenizers import Tokenizer

MULTIPLE = 16  # widths, so that the kernels of few shapes are made
LEAST_HIDDEN, MOST_HIDDEN = 0.2, 0.8  # of a query's words


@dataclass(frozen=True)
class Text:
    """Token ids, and for each token the number of its word's stem: 0 for stop words and signs, which do not count."""

    ids: np.ndarray
    stems: np.ndarray

    def where(self, kept: np.ndarray) -> Text:
        """The tokens for which ``kept`` is true."""
        return Text(self.ids[kept], self.stems[kept])


Pair = tuple[Text, Text]


@dataclass(frozen=True)
class Part:
    """Some of a step's pairs: tensors ``[pairs, tokens]``.

    matched: 1 where a token's word, by its stem, occurs in the other text.
    weights: of that question; 0 for stop words, signs, special tokens and padding.
    """

    places: np.ndarray
    ids: torch.Tensor
    mask: torch.Tensor
    matched: torch.Tensor
    weights: torch.Tensor


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

    bm25: BM25's scores, float32 ``[lists, documents]``, NaN where BM25 did not find the document or words are hidden.
    """

    pairs: list[Pair]
    bm25: torch.Tensor


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
            spans: dict[int, tuple[int, int]] = {}
            for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
                spans[word] = (spans.get(word, (start, end))[0], end)
            numbers = {word: self._number(text[start:end]) for word, (start, end) in spans.items()}
            found.append(Text(np.array(encoding.ids), np.array([numbers[word] for word in encoding.word_ids])))
        return found

    def _number(self, word: str) -> int:
        if word not in self._numbers:
            root = stem(word.strip())
            self._numbers[word] = 0 if root is None else self._stems.setdefault(root, len(self._stems) + 1)
        return self._numbers[word]


def parts(pairs: Sequence[Pair], longest: int, count: int) -> Iterator[Part]:
    """The pairs in ``count`` parts of like length, cut to ``longest`` tokens; ``places`` tells which they are."""
    lengths = np.array([min(longest, 3 + len(query.ids) + len(document.ids)) for query, document in pairs])
    for places in np.array_split(np.argsort(lengths, kind="stable"), count):
        shape = (len(places), -(-lengths[places[-1]] // MULTIPLE) * MULTIPLE)
        ids, matched, weights = np.full(shape, PAD), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for row, place in enumerate(places):
            query, document = pairs[place]
            end, middle = lengths[place] - 1, 1 + len(query.ids)
            words = document.stems[: end - middle - 1]
            ids[row, : end + 1] = [CLS, *query.ids, SEP, *document.ids[: len(words)], SEP]
            matched[row, 1:middle] = np.isin(query.stems, words)
            matched[row, middle + 1 : end] = np.isin(words, query.stems)
            weights[row, 1:middle] = 3 * (query.stems > 0)  # there are fewer of the query's
            weights[row, middle + 1 : end] = words > 0
        tensors = [torch.from_numpy(array) for array in (ids, (ids != PAD).astype(np.int64), matched, weights)]
        yield Part(places, *tensors)


def random_pairs(count: int, rng: np.random.Generator) -> list[Pair]:
    """Texts of random tokens, each its own word, of which the second repeats some of the first."""
    pairs = []
    longest = rng.integers(16, 64)
    for _ in range(count):
        query = rng.integers(len(SPECIAL), VOCABULARY, rng.integers(3, 13))
        document = rng.integers(len(SPECIAL), VOCABULARY, rng.integers(longest // 2, longest))
        copied = rng.random(len(document)) < rng.random() * 0.6
        document = np.where(copied, rng.choice(query, len(document)), document)
        pairs.append((Text(query, query), Text(document, document)))
    return pairs


def ranking_lists(
    pools: Sequence[Pool], mixture: Mixture, lists: int, negatives: int, rng: np.random.Generator
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
            bm25 = np.full((lists, 1 + negatives), np.nan, np.float32)
            for row, (pool, topic, _) in enumerate(usable[i] for i in order[first : first + lists]):
                chosen = [topic.own, *rng.choice(topic.negatives, negatives, replace=False)]
                query, documents = pool.queries[topic.own], [pool.documents[place] for place in chosen]
                if rng.random() < mixture.hiding:
                    documents = _hide(query, documents, rng)
                else:
                    known = dict(zip(topic.found, topic.scores, strict=True))
                    bm25[row] = [known.get(place, np.nan) for place in chosen]
                pairs += [(query, document) for document in documents]
            yield Lists(pairs, torch.from_numpy(bm25))


def _hide(query: Text, documents: Sequence[Text], rng: np.random.Generator) -> list[Text]:
    """The documents without some of the query's words, so that those that say the same otherwise must be found.

    Documents that lose fewer tokens thereby lose about as many by other words, so that gaps tell nothing.
    """
    words = _words(query)
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
        found.append(document.where(~(lost | np.isin(document.stems, others[order][enough]))))
    return found


def _words(text: Text) -> np.ndarray:
    return np.unique(text.stems[text.stems > 0])

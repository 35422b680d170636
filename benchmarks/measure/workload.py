"""What is scored: queries with documents, of fixed lengths, of a real mix of lengths, or the user's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modernrank.errors import InputError
from modernrank.export.precision.calibration import SHIPPED
from modernrank.text import jsonl
from modernrank.text.checks import Pair

# Lengths in tokens of 4,300 pairs of TREC DL 2019 queries with MS MARCO passages that BM25 found, as
# gte-reranker-modernbert-base's tokenizer counts them: the quantiles 0, 0.05, .. 1. Lengths only, no text.
MIX = (31, 52, 58, 62, 66, 69, 71, 74, 77, 81, 84, 88, 94, 101, 108, 117, 124, 132, 142, 158, 282)
FILLER = " a"  # one token in every BPE vocabulary of English

CountTokens = Callable[[Pair], int]


@dataclass(frozen=True)
class Workload:
    """Named queries with their documents; one query is one call of the ``query`` scenario."""

    name: str
    queries: list[list[Pair]]

    @property
    def pairs(self) -> list[Pair]:
        """All of them."""
        return [pair for query in self.queries for pair in query]


def from_file(file: str, documents: int | None = None) -> Workload:
    """The pairs of a JSON lines file, grouped by query; of each query the first ``documents``.

    Raises:
        InputError: it holds no pairs, or a line cannot be used.
    """
    with jsonl.reading(file) as lines:
        pairs = list(jsonl.PairReader(lines, file))
    if not pairs:
        raise InputError(f'{file} holds no pairs; a line is {{"query": .., "document": ..}}')
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0], []).append(pair)
    return Workload(Path(file).name, [group[:documents] for group in groups.values()])


def fixed(tokens: int, documents: int, queries: int, count: CountTokens, seed: int) -> Workload:
    """Pairs of ``tokens`` tokens each."""
    return _made(f"{tokens} tokens", lambda _: tokens, documents, queries, count, seed)


def mix(documents: int, queries: int, count: CountTokens, seed: int) -> Workload:
    """Pairs with the lengths that passage search has (``MIX``), of this project's own text."""

    def draw(chance: random.Random) -> int:
        low = chance.randrange(len(MIX) - 1)
        return round(chance.uniform(MIX[low], MIX[low + 1]))

    return _made("mix", draw, documents, queries, count, seed)


def _made(
    name: str, draw: Callable[[random.Random], int], documents: int, queries: int, count: CountTokens, seed: int
) -> Workload:
    chance = random.Random(seed)
    with jsonl.reading(str(SHIPPED)) as lines:
        texts = list(jsonl.PairReader(lines, str(SHIPPED)))
    asked = list(dict.fromkeys(query for query, _ in texts))
    words = [word for _, document in texts for word in document.split()]
    return Workload(
        name,
        [
            [_pair_of(draw(chance), asked[q % len(asked)], words, count, chance) for _ in range(documents)]
            for q in range(queries)
        ],
    )


def _pair_of(tokens: int, query: str, words: list[str], count: CountTokens, chance: random.Random) -> Pair:
    """A pair of exactly ``tokens`` tokens: as many words as fit, from a place drawn by chance, and filler."""
    start = chance.randrange(len(words))
    endless = words[start:] + words * (tokens // len(words) + 1)

    def document(used: int) -> str:
        return " ".join(endless[:used])

    if count((query, "")) > tokens:
        raise InputError(f"{tokens} tokens are too few for the query {query!r}; ask for at least {count((query, ''))}")
    low, high = 0, min(tokens, len(endless))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count((query, document(middle))) <= tokens else (low, middle - 1)
    missing = tokens - count((query, document(low)))
    return (query, document(low) + FILLER * missing)

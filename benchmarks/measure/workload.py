"""The pairs that are scored: of one length, of the lengths of passage search, or the user's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modernrank.errors import InputError
from modernrank.export.precision.calibration import read_calibration
from modernrank.options import positive
from modernrank.text import jsonl
from modernrank.text.checks import Pair

# Lengths in tokens of 4,300 pairs of TREC DL 2019 queries with the MS MARCO passages that BM25 retrieved, as
# gte-reranker-modernbert-base's tokenizer counts them: the quantiles 0, 0.05, .. 1. Lengths only, no text.
MIX = (31, 52, 58, 62, 66, 69, 71, 74, 77, 81, 84, 88, 94, 101, 108, 117, 124, 132, 142, 158, 282)
MIX_DOCUMENTS = 100
FILLER = " a"  # one token in every BPE vocabulary of English

CountTokens = Callable[[Pair], int]


@dataclass(frozen=True)
class Workload:
    """Named queries with their documents. One query is one call of the ``query`` scenario.

    ``tokens_per_pair`` is the number of tokens in every pair, or None if pairs differ in length.
    """

    name: str
    queries: list[list[Pair]]
    tokens_per_pair: int | None = None

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of all queries."""
        return [pair for query in self.queries for pair in query]


@dataclass(frozen=True)
class WorkloadOptions:
    """Which workloads are measured: one for each file and each length, and the mix.

    files:     JSON lines of pairs, grouped by query.
    lengths:   numbers of tokens; a workload of made-up pairs for each.
    mix:       whether to add made-up pairs with the lengths of passage search; they are the default.
    documents: maximum number of documents of a query in a file, and their number for made-up pairs. None takes all
               of a file, 1 for each length and MIX_DOCUMENTS for the mix.
    queries:   number of queries with made-up pairs.
    seed:      of the texts.

    Raises:
        InputError: a number is not a whole number of at least 1.
    """

    files: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    mix: bool = False
    documents: int | None = None
    queries: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = {"queries": self.queries, "documents": 1 if self.documents is None else self.documents}
        for name, value in [*numbers.items(), *(("a length", length) for length in self.lengths)]:
            positive(name, value)


def make_workloads(options: WorkloadOptions, count_tokens: CountTokens) -> list[Workload]:
    """The workloads of ``options``, files first.

    Args:
        options: which pairs.
        count_tokens: number of tokens of a pair, special tokens included.

    Raises:
        InputError: a file cannot be used, or a length is too small for the query.
    """
    workloads = [from_file(file, options.documents) for file in options.files]
    documents, queries, seed = options.documents or 1, options.queries, options.seed
    workloads += [fixed(length, documents, queries, count_tokens, seed) for length in options.lengths]
    if options.mix or not workloads:
        workloads.append(mix(options.documents or MIX_DOCUMENTS, queries, count_tokens, seed))
    return workloads


def from_file(file: str, documents: int | None = None) -> Workload:
    """The pairs of a JSON lines file, grouped by query, with at most ``documents`` documents for each query.

    Raises:
        InputError: the file holds no pairs, or a line cannot be used.
    """
    with jsonl.reading(file) as lines:
        pairs = list(jsonl.PairReader(lines, file))
    if not pairs:
        raise InputError(f'{file} holds no pairs; a line is {{"query": .., "document": ..}}', file=file)
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0], []).append(pair)
    return Workload(Path(file).name, [group[:documents] for group in groups.values()])


def fixed(tokens: int, documents: int, queries: int, count_tokens: CountTokens, seed: int) -> Workload:
    """Made-up pairs of ``tokens`` tokens each.

    Raises:
        InputError: the query alone has more tokens.
    """

    def draw(generator: random.Random) -> int:
        return tokens

    made = _made_up(draw, (queries, documents), count_tokens, seed)
    return Workload(f"{tokens} tokens", made, tokens)


def mix(documents: int, queries: int, count_tokens: CountTokens, seed: int) -> Workload:
    """Made-up pairs with the lengths of passage search (``MIX``)."""

    def draw(generator: random.Random) -> int:
        low = generator.randrange(len(MIX) - 1)
        return round(generator.uniform(MIX[low], MIX[low + 1]))

    return Workload("mix", _made_up(draw, (queries, documents), count_tokens, seed))


def _made_up(
    draw: Callable[[random.Random], int], shape: tuple[int, int], count_tokens: CountTokens, seed: int
) -> list[list[Pair]]:
    """Queries with documents, ``shape`` of them, with as many tokens as ``draw`` gives for each pair."""
    generator = random.Random(seed)
    queries, words = _filler()
    return [
        [_pair_of(draw(generator), queries[q % len(queries)], words, count_tokens, generator) for _ in range(shape[1])]
        for q in range(shape[0])
    ]


def _filler() -> tuple[list[str], list[str]]:
    """The queries of this project's own text, and the words of its documents."""
    texts = read_calibration(None).pairs
    return list(dict.fromkeys(query for query, _ in texts)), [w for _, document in texts for w in document.split()]


def _pair_of(tokens: int, query: str, words: list[str], count_tokens: CountTokens, generator: random.Random) -> Pair:
    """A pair of exactly ``tokens`` tokens: as many words as fit, from a random place, and filler."""
    start = generator.randrange(len(words))
    endless = words[start:] + words * (tokens // len(words) + 1)

    def document(used: int) -> str:
        return " ".join(endless[:used])

    minimum = count_tokens((query, ""))
    if minimum > tokens:
        raise InputError(
            f"{tokens} tokens are too few for the query {query!r}; the minimum is {minimum}",
            value=tokens,
            limit=minimum,
        )
    low, high = 0, min(tokens, len(endless))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens((query, document(middle))) <= tokens else (low, middle - 1)
    missing = tokens - count_tokens((query, document(low)))
    return (query, document(low) + FILLER * missing)

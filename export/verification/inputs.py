"""What a verification runs: pairs of every critical length, arranged in batches in several ways, and unusual texts.

The lengths are on and beside every boundary in the graph: the window of the sliding layers (64 tokens), its blocks (64,
128, 192, 256), the change from band masks to blocks (192), and long pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from modernrank.arrays import IntArray
from modernrank.artifact.folder import Artifact
from modernrank.batching.batch import PlannedBatch

_SHORT = (3, 16, 63, 64, 65, 66)
_EDGES = (127, 128, 129, 130, 191, 192, 193, 255, 256, 257)
LENGTHS = (*_SHORT, *_EDGES, 512, 1000, 2048, 4096, 8192)  # tokens
MINIMUM_LONGEST = _SHORT[2]  # with fewer than three lengths, pairs cannot be packed in every order
# Maximum length of a pair that is tried beside others. The runtime never puts longer ones in a shared row or batch:
# their masks alone would take hundreds of megabytes.
LONGEST_SHARED = 2048
SEED = 20240
PADDING = 5  # tokens at the end of a packed row

# Texts for the check of the tokenizer: languages, code, empty and unusual strings. ``special_token_pairs`` makes more.
TEXTS = (
    "what is the capital of China?",
    "",
    "Ein Satz mit Umlauten: äöüß, und ein zweiter.",
    "def quicksort(xs):\n    return xs if len(xs) < 2 else ...\t# tabs and spaces   ",
    "北京是中国的首都。",
    "e\u0301 combining, \u00e9 composed, emoji \U0001f600, NUL \0, zero width \u200b",
    "long " * 300,
)


def random_pairs(artifact: Artifact, lengths: Sequence[int]) -> list[IntArray]:
    """Token ids of one pair of each length: special tokens around random text."""
    rng = np.random.default_rng(SEED)
    template = artifact.encoder(max(lengths)).template
    low, high = artifact.manifest.model.vocabulary // 10, artifact.manifest.model.vocabulary // 2
    pairs = []
    for length in lengths:
        text = rng.integers(low, high, max(0, length - len(template))).tolist()
        half = len(text) // 2
        pairs.append(np.array(template.join(text[:half], text[half:]), np.int64))
    return pairs


def special_token_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that hold the text of every special or added token: alone, and inside a sentence in several ways.

    They show tokens that only one side knows, and white space beside them that only one side takes into the token.

    >>> special_token_pairs(["[SEP]"])[0]
    ('[SEP]', 'one [SEP] two')
    """
    sentences = ("one {} two", "one{}two", "  {}\n", "{} {}")
    pairs = [(text, sentence.replace("{}", text)) for text in texts for sentence in sentences]
    lower = [(text.lower(), f"one {text.lower()} two") for text in texts if text.lower() != text]
    return [*pairs, *lower]


def arrangements(
    lengths: Sequence[int], is_packed: bool, widest: int, most_rows: Callable[[int], int] | None = None
) -> Iterator[tuple[str, list[PlannedBatch]]]:
    """The batches of each arrangement of ``result.ARRANGEMENTS``.

    Args:
        lengths: tokens of each pair.
        is_packed: whether the graph takes several pairs in a row.
        widest: maximum number of tokens of a row. Pairs that do not fit into one together are not packed.
        most_rows: maximum number of rows of a batch by its width, where the backend limits it.
    """
    yield "alone", [PlannedBatch(((pair,),), length) for pair, length in enumerate(lengths)]
    shared = [pair for pair, length in enumerate(lengths) if length <= LONGEST_SHARED]
    if is_packed:
        packed = [_one_row(order, lengths) for order in _orders(shared)]
        yield "packed", [batch for batch in packed if batch.width <= widest]
    groups = np.array_split(shared, max(1, len(shared) // 5))  # five or more rows each
    rows = [_one_pair_a_row([int(pair) for pair in group], lengths) for group in groups]
    yield "rows", [part for batch in rows for part in _split(batch, most_rows)]


def _orders(pairs: Sequence[int]) -> list[tuple[int, ...]]:
    """Every order of every three neighbours."""
    triples = [tuple(pairs[(i + step) % len(pairs)] for step in (0, 1, 2)) for i in range(len(pairs))]
    orders = {order for triple in triples for order in itertools.permutations(triple) if len(set(order)) == len(order)}
    return sorted(orders)


def _one_row(pairs: tuple[int, ...], lengths: Sequence[int]) -> PlannedBatch:
    return PlannedBatch((pairs,), sum(lengths[pair] for pair in pairs) + PADDING)


def _one_pair_a_row(pairs: Sequence[int], lengths: Sequence[int]) -> PlannedBatch:
    return PlannedBatch(tuple((pair,) for pair in pairs), max(lengths[pair] for pair in pairs))


def _split(batch: PlannedBatch, most_rows: Callable[[int], int] | None) -> Iterator[PlannedBatch]:
    """The batch in parts of as many rows as the backend takes of its width."""
    step = len(batch.rows) if most_rows is None else most_rows(batch.width)
    for start in range(0, len(batch.rows), step):
        yield PlannedBatch(batch.rows[start : start + step], batch.width)

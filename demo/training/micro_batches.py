"""Pairs as padded tensors, a step's pairs in several batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .small_modernbert import CLS, PAD, SEP
from .token_texts import Pair

MULTIPLE = 16  # widths, so that the kernels of few shapes are made


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


def parts(pairs: Sequence[Pair], longest: int, count: int) -> Iterator[Part]:
    """The pairs in at most ``count`` parts of like length, cut to ``longest`` tokens; ``places`` tells which."""
    lengths = np.array([min(longest, 3 + len(query.ids) + len(document.ids)) for query, document in pairs])
    for places in np.array_split(np.argsort(lengths, kind="stable"), min(count, len(pairs))):
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

"""A step's pairs as padded tensors, in several micro-batches of pairs of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data.token_texts import IntArray, Pair
from .small_modernbert import CLS, PAD, SEP

WIDTH_MULTIPLE = 16  # divides every micro-batch's width, so that PyTorch makes kernels for few shapes
QUERY_WEIGHT = 3.0  # its weight in the matching question, because a query has fewer tokens than its document


@dataclass(frozen=True)
class MicroBatch:
    """Some of a step's pairs, as tensors ``[pairs, tokens]``.

    Attributes:
        positions: int64 ``[pairs]``, the pairs' positions in the step.
        ids: int64 token ids, padded.
        mask: int64, 1 for a token and 0 for padding.
        matched: float32, 1 if the other text has the stem of the token's word.
        weights: float32, the token's weight in the matching question; 0 for stop words, signs, special tokens and
            padding.
    """

    positions: IntArray
    ids: torch.Tensor
    mask: torch.Tensor
    matched: torch.Tensor
    weights: torch.Tensor


def micro_batches(pairs: Sequence[Pair], max_tokens: int, count: int) -> Iterator[MicroBatch]:
    """Sort the pairs by length, and divide them into at most ``count`` micro-batches.

    Args:
        pairs: The step's pairs.
        max_tokens: The maximum of a pair's tokens; the document loses the others.
        count: The maximum number of micro-batches.
    """
    lengths = np.array([min(max_tokens, 3 + len(query.ids) + len(document.ids)) for query, document in pairs])
    for positions in np.array_split(np.argsort(lengths, kind="stable"), min(count, len(pairs))):
        yield _pad([pairs[position] for position in positions], lengths[positions], positions)


def _pad(pairs: Sequence[Pair], lengths: IntArray, positions: IntArray) -> MicroBatch:
    """Make the tensors of pairs whose lengths ascend."""
    width = -(-lengths[-1] // WIDTH_MULTIPLE) * WIDTH_MULTIPLE  # rounded up
    shape = (len(pairs), width)
    ids, matched, weights = np.full(shape, PAD), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for row, ((query, document), length) in enumerate(zip(pairs, lengths, strict=True)):
        end, middle = length - 1, 1 + len(query.ids)  # where the second and the first [SEP] stand
        stems = document.stems[: end - middle - 1]
        ids[row, : end + 1] = [CLS, *query.ids, SEP, *document.ids[: len(stems)], SEP]
        matched[row, 1:middle] = np.isin(query.stems, stems)
        matched[row, middle + 1 : end] = np.isin(stems, query.stems)
        weights[row, 1:middle] = QUERY_WEIGHT * (query.stems > 0)
        weights[row, middle + 1 : end] = stems > 0
    mask = (ids != PAD).astype(np.int64)
    return MicroBatch(positions, *(torch.from_numpy(array) for array in (ids, mask, matched, weights)))

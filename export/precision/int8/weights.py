"""Convert weights to integers that no processor can saturate.

The fastest product of uint8 activations and int8 weights on processors without a dot-product instruction adds the two
products of neighbouring channels (0 and 1, 2 and 3, ..) in 16 bits, and saturates silently. The weights that are
written here cannot saturate it, whatever the activations: of two neighbours the positive weights sum to at most 128,
and the negative weights to at least -128, and 255 * 128 fits into 16 bits. Every processor then computes the same
integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.host import available_threads

INT8_MAX = 127
NEIGHBOURS_MAX = 128  # 255 * 128 = 32,640 fits into a signed 16-bit integer
# Scales that are tried, as a share of the one at which nothing is clipped. Clipping a few weights by a little costs
# less than rounding all weights more coarsely.
SCALES = (1.0, 0.9, 0.78)
FEW_SCALES = SCALES[:2]  # to compare choices with
ROWS_AT_ONCE = 64  # so that what is computed with stays in a core's cache


@dataclass(frozen=True)
class IntegerWeights:
    """``integers`` int8 ``[outputs, inputs]`` and ``scales`` float32 ``[outputs]``: a weight is the product of both."""

    integers: np.ndarray
    scales: FloatArray

    def as_float(self) -> FloatArray:
        """The weights that the integers stand for, float32 ``[outputs, inputs]``."""
        result: FloatArray = self.integers * self.scales[:, None]
        return result


def quantise_weight(
    weight: FloatArray, importance: FloatArray | None = None, shares: Sequence[float] = SCALES
) -> IntegerWeights:
    """Integers that cannot saturate, and for each output the scale with the smallest error.

    Args:
        weight: ``[outputs, inputs]``.
        importance: how much an error of each input channel counts, ``[inputs]``: the mean square of its activations.
            None if all count alike.
        shares: the scales to try, as shares of the one at which nothing is clipped.

    >>> quantised = quantise_weight(np.array([[1.0, 0.0, -1.0, 0.5]], np.float32))
    >>> quantised.integers.tolist()
    [[127, 0, -127, 64]]
    """
    importance = np.ones(weight.shape[1], np.float32) if importance is None else importance.astype(np.float32)
    integers = np.empty(weight.shape, np.int8)
    scales = np.empty(len(weight), np.float32)

    def convert(start: int) -> None:
        rows = slice(start, start + ROWS_AT_ONCE)
        integers[rows], scales[rows] = _best_scales(weight[rows], importance, shares)

    starts = range(0, len(weight), ROWS_AT_ONCE)
    if len(starts) == 1:  # starting threads would take longer
        convert(0)
    else:
        with ThreadPoolExecutor(available_threads()) as threads:
            list(threads.map(convert, starts))
    return IntegerWeights(integers, scales)


def _best_scales(weight: FloatArray, importance: FloatArray, shares: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Integers of all rows, each with the best of its scales, and these scales."""
    widest = _scales_without_clipping(weight)
    integers, scales = np.zeros_like(weight), widest.copy()
    smallest = np.full(len(weight), np.inf, np.float32)
    for share in shares:
        scale = widest * np.float32(share)
        candidate = within_limits(weight / scale[:, None])
        error = np.square(candidate * scale[:, None] - weight) @ importance
        better = error < smallest
        integers[better], scales[better], smallest[better] = candidate[better], scale[better], error[better]
    return integers, scales


def _scales_without_clipping(weight: FloatArray) -> FloatArray:
    """The smallest scale of each row at which every weight and every two neighbours keep to their limits."""
    first, second = _neighbours(weight)
    sums = np.maximum(first, 0) + np.maximum(second, 0), np.minimum(first, 0) + np.minimum(second, 0)
    largest = np.maximum(sums[0].max(axis=1), -sums[1].min(axis=1)) / NEIGHBOURS_MAX
    scales = np.maximum(largest, np.abs(weight).max(axis=1) / INT8_MAX)
    return np.where(scales > 0, scales, 1).astype(np.float32)


def within_limits(values: FloatArray) -> FloatArray:
    """The nearest integers ``[rows, inputs]`` of which no two neighbours can saturate.

    What two neighbours of one sign exceed their limit by is taken from both in equal parts.

    >>> within_limits(np.array([[100.0, 40.0, 100.0, -40.2]], np.float32)).tolist()
    [[94.0, 34.0, 100.0, -40.0]]
    """
    first, second = _neighbours(np.abs(values))
    one_sign = np.equal(*_neighbours(np.signbit(values)))
    excess = np.maximum(first + second - NEIGHBOURS_MAX, 0) * (one_sign * np.float32(0.5))
    first = np.minimum(np.rint(np.maximum(first - excess, 0)), INT8_MAX)
    room = np.where(one_sign, np.minimum(NEIGHBOURS_MAX - first, INT8_MAX), INT8_MAX)
    second = np.minimum(np.rint(np.maximum(second - excess, 0)), room)
    magnitudes = np.stack([first, second], axis=2).reshape(len(values), -1)[:, : values.shape[1]]
    result: FloatArray = np.copysign(magnitudes, values)
    return result


def _neighbours(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The even and the odd columns; the last of an odd number of columns has a neighbour of zeros."""
    if values.shape[1] % 2:
        values = np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
    return values[:, 0::2], values[:, 1::2]

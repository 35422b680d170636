"""Round the weights of a layer one pair of channels after the other, and let the rest make up for each error.

A weight's error is the same for every token, so it adds up over tokens, where the errors of activations cancel. Inputs
of a layer are correlated, and have means: what the rounding of one channel changes in the output, the weights of the
others can take back (GPTQ, arXiv 2210.17323; optimal brain surgeon, Hassibi and Stork 1992).
"""

from __future__ import annotations

import numpy as np

from modernrank.arrays import FloatArray

from .weights import INT8_MAX, NEIGHBOURS_MAX, within_limits

# Share of the mean square of an input that is added to all: what calibration cannot tell counts as independent noise.
DAMPING = 0.1
BLOCK = 64  # channels that are rounded before the others learn of their errors; even


def feedback_factor(moments: FloatArray) -> FloatArray:
    """The upper triangular factor U of the inverse of ``moments``, which is ``U.T @ U``.

    Args:
        moments: mean of ``x_i * x_j`` over tokens, ``[inputs, inputs]``.
    """
    from scipy.linalg import solve_triangular  # which an exact export does not need

    damping = DAMPING * float(np.mean(np.diag(moments))) or 1.0
    damped = moments.astype(np.float64) + damping * np.eye(len(moments))
    # With rows and columns in reverse order, Cholesky's factor is the inverse of U.
    inverse = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    factor: FloatArray = solve_triangular(inverse, np.eye(len(moments)), check_finite=False).astype(np.float32)
    return factor


def round_with_feedback(weight: FloatArray, scales: FloatArray, factor: FloatArray) -> np.ndarray:
    """int8 ``[outputs, inputs]`` that keep to the limits of ``weights.within_limits``.

    Args:
        weight: ``[outputs, inputs]``.
        scales: ``[outputs]``.
        factor: of ``feedback_factor``.
    """
    rest = np.ascontiguousarray((weight / scales[:, None]).T)  # [inputs, outputs]: a channel is contiguous
    integers = np.zeros_like(rest)
    for start in range(0, len(rest), BLOCK):
        stop = min(start + BLOCK, len(rest))
        errors = np.zeros_like(rest[start:stop])
        for first in range(start, stop, 2):
            pair = slice(first, min(first + 2, stop))
            _round_pair(rest, integers, errors[first - start :], factor, pair)
            after = slice(pair.stop, stop)
            rest[after] -= factor[pair, after].T @ errors[pair.start - start : pair.stop - start]
        rest[stop:] -= factor[start:stop, stop:].T @ errors
    return integers.T.astype(np.int8)


def _round_pair(rest: FloatArray, integers: FloatArray, errors: FloatArray, factor: FloatArray, pair: slice) -> None:
    """Round one channel, then its neighbour, which also makes up for the first one's error.

    Args:
        rest: what remains of the weights, in units of their scales, ``[inputs, outputs]``.
        integers: set to the result at ``pair``.
        errors: the first rows are set to the errors of ``pair``, over the diagonal of ``factor``.
        factor: of ``feedback_factor``.
        pair: the channels.
    """
    first = pair.start
    integers[pair] = within_limits(rest[pair].T).T
    errors[0] = (rest[first] - integers[first]) / factor[first, first]
    for second in range(first + 1, pair.stop):
        rest[second] -= factor[first, second] * errors[0]
        highest = np.minimum(INT8_MAX, NEIGHBOURS_MAX - np.maximum(integers[first], 0))
        lowest = np.maximum(-INT8_MAX, -NEIGHBOURS_MAX - np.minimum(integers[first], 0))
        integers[second] = np.clip(np.rint(rest[second]), lowest, highest)
        errors[1] = (rest[second] - integers[second]) / factor[second, second]

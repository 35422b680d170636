"""Convert activations and weights to integers, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray

INT8_MAX = 127


@dataclass(frozen=True)
class InputQuantisation:
    """How the input of one linear layer becomes uint8: ``q = clip(round(x / scale) + zero_point, 0, 255)``.

    The scale is fixed at export, so that a pair's score does not depend on the other pairs of its batch.

    A few channels that are many times larger than the others stay in float32, in products of their own:
    ``float_inputs`` because of their activations, ``float_outputs`` because of their weights.
    """

    scale: float
    zero_point: int
    float_inputs: tuple[int, ...] = ()
    float_outputs: tuple[int, ...] = ()


def quantise_weight(weight: FloatArray) -> tuple[np.ndarray, FloatArray]:
    """Signed int8 weights ``[outputs, inputs]`` and their scales ``[outputs]``, symmetric, one for each output.

    >>> q, scale = quantise_weight(np.array([[0.5, -1.0]], np.float32))
    >>> q.tolist(), round(float(scale[0]) * 127, 6)
    ([[64, -127]], 1.0)
    """
    largest = np.abs(weight).max(axis=1)
    scale = (np.where(largest > 0, largest, 1.0) / INT8_MAX).astype(np.float32)
    return np.clip(np.round(weight / scale[:, None]), -INT8_MAX, INT8_MAX).astype(np.int8), scale


def input_quantisation(
    low: float, high: float, float_inputs: tuple[int, ...], float_outputs: tuple[int, ...]
) -> InputQuantisation:
    """uint8 over [low, high], widened to hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-12) / 255
    return InputQuantisation(scale, round(-low / scale), float_inputs, float_outputs)


def dequantised(values: FloatArray, q: InputQuantisation) -> FloatArray:
    """``values`` after conversion to uint8 and back."""
    result: FloatArray = (np.clip(np.round(values / q.scale) + q.zero_point, 0, 255) - q.zero_point) * q.scale
    return result.astype(np.float32)

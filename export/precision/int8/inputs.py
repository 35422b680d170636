"""How the input of a linear layer becomes uint8, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray

TOKEN_MAX = 127  # the largest magnitude of a token becomes this far from the zero point
TINY = 1e-30  # instead of the scale of a token of zeros, which has none


@dataclass(frozen=True)
class InputQuantisation:
    """How the input of one linear layer becomes uint8: ``q = clip(round(x / scale) + zero_point, 0, 255)``.

    The scale does not depend on the other pairs of a batch, so neither does a pair's score: it is fixed at export, or
    ``scale`` is None and each token has its own, a 127th of its largest magnitude.

    A few channels that are many times larger than the others stay in float32, in products of their own:
    ``float_inputs`` because of their activations, ``float_outputs`` because of their weights.
    """

    scale: float | None
    zero_point: int
    float_inputs: tuple[int, ...] = ()
    float_outputs: tuple[int, ...] = ()


def input_quantisation(
    low: float, high: float, float_inputs: tuple[int, ...], float_outputs: tuple[int, ...]
) -> InputQuantisation:
    """uint8 over [low, high], widened to hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-12) / 255
    return InputQuantisation(scale, round(-low / scale), float_inputs, float_outputs)


def per_token_quantisation(float_inputs: tuple[int, ...], float_outputs: tuple[int, ...]) -> InputQuantisation:
    """A scale for each token; 0 is in the middle of uint8."""
    return InputQuantisation(None, TOKEN_MAX + 1, float_inputs, float_outputs)


def dequantised(values: FloatArray, q: InputQuantisation) -> FloatArray:
    """``values`` ``[tokens, inputs]`` after conversion to uint8 and back."""
    scale = q.scale
    if scale is None:
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), TINY) / TOKEN_MAX
    result: FloatArray = (np.clip(np.round(values / scale) + q.zero_point, 0, 255) - q.zero_point) * scale
    return result.astype(np.float32)

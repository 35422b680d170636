"""Smoothing: divide an activation's channels by ``s`` and multiply the weights that read them by ``s``.

The product stays what it was, but channels of very different size become alike and quantise better (SmoothQuant,
arXiv 2211.10438). The division costs nothing at run time, because the tensors that make the activation absorb it. The
model family knows these tensors (``Architecture.absorbed_by``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.checkpoint.weights import Weights


class SmoothedWeights:
    """The tensors of a checkpoint with smoothing folded in. The model computes the same function with other weights.

    Args:
        weights: the checkpoint.
        scales: the ``s`` of each linear layer that is smoothed, by its name, float32 ``[inputs]``.
        absorbed_by: ``Architecture.absorbed_by`` of the model.
    """

    def __init__(
        self, weights: Weights, scales: Mapping[str, FloatArray], absorbed_by: Callable[[str], tuple[str, int]]
    ) -> None:
        self._weights = weights
        self._scales = scales
        self._absorbed_by = absorbed_by

    def tensor(self, name: str) -> FloatArray:
        """One tensor as float32."""
        layer, _, kind = name.rpartition(".")
        values = self._weights.tensor(name)
        if kind == "weight" and layer in self._scales:
            values = values * self._scales[layer]
        reader, parts = self._absorbed_by(layer)
        if reader in self._scales:
            values = values.copy()
            rows = len(values) // parts
            target = values[-rows:]  # the last part makes the reader's input
            target /= self._scales[reader] if target.ndim == 1 else self._scales[reader][:, None]
        return values

    def rows(self, name: str, start: int, stop: int) -> FloatArray:
        """Rows of a tensor as float32."""
        layer, _, kind = name.rpartition(".")
        is_scaled = (kind == "weight" and layer in self._scales) or self._absorbed_by(layer)[0] in self._scales
        return self.tensor(name)[start:stop] if is_scaled else self._weights.rows(name, start, stop)


def smoothing_scale(activation: FloatArray, weight: FloatArray, strength: float) -> FloatArray:
    """``s = max|x| ** strength / max|w| ** (1 - strength)`` by input channel (SmoothQuant, equation 4).

    Args:
        activation: largest magnitude of each channel ``[inputs]``.
        weight: ``[outputs, inputs]``.
        strength: 0 to 1: how much of the activation's spread goes to the weights.
    """
    reads = np.maximum(np.abs(weight).max(axis=0), 1e-5)
    scale = np.maximum(activation, 1e-5) ** strength / reads ** (1 - strength)
    result: FloatArray = (scale / np.exp(np.log(scale).mean())).astype(np.float32)  # about 1 on average
    return result

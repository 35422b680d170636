"""Smoothing: divide an activation's channels by ``s`` and multiply the weights that read them by ``s``.

The product stays what it was, but channels of very different size become alike and quantise better (SmoothQuant,
arXiv 2211.10438). The division costs nothing at run time, since whatever makes the activation absorbs it:

    into Wqkv     attn_norm's gain and bias         (not in the first layer, which has no norm of its own)
    into attn.Wo  the rows of V in Wqkv
    into mlp.Wi   mlp_norm's gain and bias
    into mlp.Wo   the rows of the gate in Wi
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.checkpoint.weights import Weights


class SmoothedWeights:
    """The tensors of a checkpoint with smoothing folded in: the same model, other numbers.

    Args:
        weights: the checkpoint.
        scales: the ``s`` of each linear layer that is smoothed, by its name, float32 ``[inputs]``.
    """

    def __init__(self, weights: Weights, scales: Mapping[str, FloatArray]) -> None:
        self._weights = weights
        self._scales = scales

    def tensor(self, name: str) -> FloatArray:
        """See ``Weights.tensor``."""
        layer, _, kind = name.rpartition(".")
        values = self._weights.tensor(name)
        if kind == "weight" and layer in self._scales:
            values = values * self._scales[layer]
        reader, part = absorbed_by(layer)
        if reader in self._scales:
            values = values.copy()
            share = len(values) // part  # the last share of the rows: V of Wqkv, the gate of Wi, all of a norm
            target = values[-share:]
            target /= self._scales[reader] if target.ndim == 1 else self._scales[reader][:, None]
        return values


def absorbed_by(layer: str) -> tuple[str, int]:
    """The linear layer whose ``s`` the tensors of ``layer`` absorb, and into how many parts their rows divide."""
    owner, _, module = layer.rpartition(".")
    if module == "attn_norm":
        return f"{owner}.attn.Wqkv", 1
    if module == "mlp_norm":
        return f"{owner}.mlp.Wi", 1
    if module == "Wqkv":
        return f"{owner}.Wo", 3
    if module == "Wi":
        return f"{owner}.Wo", 2
    return "", 1


def can_smooth(layer: str) -> bool:
    """Whether something absorbs the division: everywhere but at the input of the first layer."""
    return layer != "model.layers.0.attn.Wqkv"


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

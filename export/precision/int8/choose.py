"""Choose for each linear layer how strongly to smooth it, where to clip its input, and what stays in float32.

Each choice is the one with the smallest error of the layer's own output on sampled activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.models.architecture import LinearLayer
from modernrank.export.precision.observe import Observation

from .inputs import InputQuantisation, dequantised, input_quantisation, per_token_quantisation
from .smooth import smoothing_scale
from .weights import FEW_SCALES, quantise_weight

STRENGTHS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7)  # 0 stands for no smoothing
CLIPS = (1.0, 0.9, 0.8, 0.65, 0.5)  # share of the observed range that is kept
SCALE_EACH_TOKEN = None  # instead of a clip
# A scale for each token is chosen where the error is at most this share of that with a fixed one: it takes time. It is
# tried for products of activations, which have long tails: tokens with large values make those of all others coarse.
TOKEN_SCALES_PAY = 0.75
LARGE_INPUT = 4.0  # an input channel stays float32 where its largest value is this many times the median's
MAX_LARGE_INPUTS = 16
LARGE_OUTPUT = 8.0  # an output channel stays float32 where its weights are this many times the median's norm
MAX_LARGE_OUTPUTS = 16
ROWS_JUDGED = 128  # outputs of a layer whose error is computed
TINY = 1e-30  # for a layer of zeros, whose error is 0 and not 0 / 0
FRAGILE = 0.05  # a layer stays float32 where its relative error is above this


@dataclass(frozen=True)
class LayerChoice:
    """What was chosen for a layer, and its relative RMS error on the samples.

    scale:      smoothing of its input, ``[inputs]``; None for no smoothing.
    input:      how its input becomes integers.
    moments:    mean of ``x_i * x_j`` of the smoothed input over tokens, ``[inputs, inputs]``.
    outputs:    number of the layer's outputs.
    """

    scale: FloatArray | None
    input: InputQuantisation
    moments: FloatArray
    outputs: int
    error: float

    @property
    def inputs(self) -> int:
        """The number of the layer's inputs."""
        return len(self.moments)


@dataclass(frozen=True)
class Quantisation:
    """All choices: ``layers`` for those that become int8, by name, and the names of ``float_layers``."""

    layers: dict[str, LayerChoice]
    float_layers: tuple[str, ...]
    errors: dict[str, float]

    @property
    def scales(self) -> dict[str, FloatArray]:
        """The smoothing of each layer that is smoothed."""
        return {name: choice.scale for name, choice in self.layers.items() if choice.scale is not None}


def quantise(weights: Weights, layers: Sequence[LinearLayer], observations: dict[str, Observation]) -> Quantisation:
    """Make every choice for ``layers`` from the observed activations, which are removed as they are used."""
    choices = {
        layer.name: choose(layer, weights.tensor(f"{layer.name}.weight"), observations.pop(layer.name))
        for layer in layers
    }
    fragile = tuple(layer for layer, choice in choices.items() if choice.error > FRAGILE)
    return Quantisation(
        layers={layer: choice for layer, choice in choices.items() if layer not in fragile},
        float_layers=fragile,
        errors={layer: choice.error for layer, choice in choices.items()},
    )


def choose(layer: LinearLayer, weight: FloatArray, observation: Observation) -> LayerChoice:
    """The strength and the clip of the input's range with the smallest error; a scale for each token where it pays."""
    candidates = _Candidates(layer, weight, observation)
    strengths = STRENGTHS if layer.can_be_smoothed else STRENGTHS[:1]
    whole = {strength: candidates.choice(strength, CLIPS[0]) for strength in strengths}
    strength = min(strengths, key=lambda each: whole[each].error)
    fixed = _best([whole[strength], *(candidates.choice(strength, clip) for clip in CLIPS[1:])])
    if not (layer.input_is_product and layer.can_be_smoothed):
        return fixed
    by_token = _best([candidates.choice(strength, SCALE_EACH_TOKEN) for strength in strengths])
    return by_token if by_token.error <= TOKEN_SCALES_PAY * fixed.error else fixed


def _best(choices: Sequence[LayerChoice]) -> LayerChoice:
    return min(choices, key=lambda choice: choice.error)


class _Candidates:
    """Makes the choices that are compared for one layer."""

    def __init__(self, layer: LinearLayer, weight: FloatArray, observation: Observation) -> None:
        self._float_outputs = large_outputs(weight) if layer.adds_to_residual else ()
        self._largest = observation.largest
        self._float_inputs = large_inputs(self._largest)
        self._observed = observation.without(self._float_inputs)  # these are float32, and so no part of the range
        self._outputs = len(weight)
        rows = np.delete(weight, self._float_outputs, axis=0)
        self._weight = rows[:: -(-len(rows) // ROWS_JUDGED)].copy()
        self._weight[:, list(self._float_inputs)] = 0
        self._exact = self._observed.samples @ self._weight.T

    def choice(self, strength: float, clip: float | None) -> LayerChoice:
        """The choice with this strength and clip, or with SCALE_EACH_TOKEN, and its error."""
        scale = self._smoothing(strength, clip is SCALE_EACH_TOKEN)
        observed = self._observed if scale is None else self._observed.divided_by(scale)
        weight = self._weight if scale is None else self._weight * scale
        quantisation = self._input_quantisation(observed, clip)
        integers = quantise_weight(weight, np.diag(observed.moments), FEW_SCALES)
        difference = dequantised(observed.samples, quantisation) @ integers.as_float().T - self._exact
        error = float(np.sqrt(np.mean(difference**2) / max(np.mean(self._exact**2), TINY)))
        return LayerChoice(scale, quantisation, observed.moments, self._outputs, error)

    def _smoothing(self, strength: float, scale_each_token: bool) -> FloatArray | None:
        scale = smoothing_scale(self._observed.largest, self._weight, strength) if strength else None
        if scale_each_token and self._float_inputs:
            # Their magnitude must not set a token's scale: they are divided until they are like the others.
            scale = np.ones_like(self._largest) if scale is None else scale
            channels = list(self._float_inputs)
            others = np.delete(self._largest / scale, channels)
            scale[channels] = self._largest[channels] / np.median(others)
        return scale

    def _input_quantisation(self, observed: Observation, clip: float | None) -> InputQuantisation:
        if clip is SCALE_EACH_TOKEN:
            return per_token_quantisation(self._float_inputs, self._float_outputs)
        low, high = float(observed.lowest.min()), float(observed.highest.max())
        return input_quantisation(low * clip, high * clip, self._float_inputs, self._float_outputs)


def large_outputs(weight: FloatArray) -> tuple[int, ...]:
    """Output channels with weights far above the others', for layers that write to the residual stream.

    Trained encoders have a few residual channels that dwarf the rest; an error there outweighs all others.
    """
    norms = np.linalg.norm(weight, axis=1)
    order = np.argsort(-norms)[:MAX_LARGE_OUTPUTS]
    return tuple(sorted(int(i) for i in order if norms[i] > LARGE_OUTPUT * np.median(norms)))


def large_inputs(largest: FloatArray) -> tuple[int, ...]:
    """Input channels whose ``largest`` magnitude is far above the others'."""
    order = np.argsort(-largest)[:MAX_LARGE_INPUTS]
    return tuple(sorted(int(i) for i in order if largest[i] > LARGE_INPUT * np.median(largest)))

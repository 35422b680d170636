"""Choose for each linear layer how strongly to smooth it, where to clip its input, and what stays in float32.

Each choice is the one with the smallest error of the layer's own output on sampled activations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.models.architecture import LinearLayer
from modernrank.export.precision.observe import Observation

from .smooth import smoothing_scale
from .weights import InputQuantisation, dequantised, input_quantisation, quantise_weight

STRENGTHS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7)  # 0 stands for no smoothing
CLIPS = (1.0, 0.9, 0.8, 0.65, 0.5)  # share of the observed range that is kept
LARGE_INPUT = 4.0  # an input channel stays float32 where its largest value is this many times the median's
MAX_LARGE_INPUTS = 16
LARGE_OUTPUT = 8.0  # an output channel stays float32 where its weights are this many times the median's norm
MAX_LARGE_OUTPUTS = 16
TINY = 1e-30  # for a layer of zeros, whose error is 0 and not 0 / 0
FRAGILE = 0.05  # a layer stays float32 where its relative error is above this


@dataclass(frozen=True)
class LayerChoice:
    """What was chosen for a layer, and its relative RMS error on the samples."""

    scale: FloatArray | None
    input: InputQuantisation
    error: float


@dataclass(frozen=True)
class Quantisation:
    """All choices by layer: ``inputs`` for the layers that become int8, ``scales`` for those that are smoothed."""

    inputs: dict[str, InputQuantisation]
    scales: dict[str, FloatArray]
    errors: dict[str, float]
    float_layers: tuple[str, ...]


def quantise(weights: Weights, layers: Sequence[LinearLayer], observations: dict[str, Observation]) -> Quantisation:
    """Make every choice for ``layers`` from the observed activations."""
    choices = {
        layer.name: choose(layer, weights.tensor(f"{layer.name}.weight"), observations[layer.name]) for layer in layers
    }
    fragile = tuple(layer for layer, choice in choices.items() if choice.error > FRAGILE)
    kept = {layer: choice for layer, choice in choices.items() if layer not in fragile}
    return Quantisation(
        inputs={layer: choice.input for layer, choice in kept.items()},
        scales={layer: choice.scale for layer, choice in kept.items() if choice.scale is not None},
        errors={layer: choice.error for layer, choice in choices.items()},
        float_layers=fragile,
    )


def choose(layer: LinearLayer, weight: FloatArray, observation: Observation) -> LayerChoice:
    """The strength and the clip with the smallest error."""
    outputs = large_outputs(weight) if layer.adds_to_residual else ()
    inputs = large_inputs(observation.largest)
    observation = observation.without(inputs)  # these are float32, and so no part of the range
    rest = np.delete(weight, outputs, axis=0)
    rest[:, list(inputs)] = 0
    samples = observation.samples
    exact = samples @ rest.T
    candidates = []
    for strength, clip in itertools.product(STRENGTHS if layer.can_be_smoothed else (0.0,), CLIPS):
        scale = smoothing_scale(observation.largest, rest, strength) if strength else None
        divisor: FloatArray = np.ones(1, np.float32) if scale is None else scale
        low, high = float((observation.lowest / divisor).min()), float((observation.highest / divisor).max())
        quantisation = input_quantisation(low * clip, high * clip, inputs, outputs)
        integers, scales = quantise_weight(rest * divisor)
        result = dequantised(samples / divisor, quantisation) @ (integers * scales[:, None]).T
        error = float(np.sqrt(np.mean((result - exact) ** 2) / max(np.mean(exact**2), TINY)))
        candidates.append(LayerChoice(scale, quantisation, error))
    return min(candidates, key=lambda choice: choice.error)


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

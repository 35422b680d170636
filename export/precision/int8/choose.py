"""Choose, for each linear layer: how strongly to smooth it, where to clip its input, what stays in float32.

Each choice is made by the layer's own error: its output on sampled activations, quantised against exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.linear import InputQuantisation, quantise_weight
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.precision.observe import Observation

from .smooth import can_smooth, smoothing_scale

STRENGTHS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7)  # 0 stands for no smoothing
CLIPS = (1.0, 0.9, 0.8, 0.65, 0.5)  # share of the observed range that is kept
LARGE_INPUT = 4.0  # an input channel stays float32 where its largest value is this many times the median's
MOST_LARGE_INPUTS = 16
LARGE_OUTPUT = 8.0  # an output channel stays float32 where its weights are this many times the median's norm
MOST_LARGE_OUTPUTS = 16
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
    """All choices. ``inputs`` are of the layers that become int8, ``scales`` of those that are smoothed."""

    inputs: dict[str, InputQuantisation]
    scales: dict[str, FloatArray]
    errors: dict[str, float]
    float_layers: tuple[str, ...]


def linear_layers(config: ModernBertConfig) -> list[str]:
    """Names of the linear layers that are worth quantising: those that run for every token."""
    kinds = ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
    return [f"model.layers.{i}.{kind}" for i in range(len(config.layers)) for kind in kinds]


def quantise(weights: Weights, config: ModernBertConfig, observations: dict[str, Observation]) -> Quantisation:
    """Make every choice from the observed activations."""
    choices = {
        layer: choose(layer, weights.tensor(f"{layer}.weight"), observations[layer]) for layer in linear_layers(config)
    }
    fragile = tuple(layer for layer, choice in choices.items() if choice.error > FRAGILE)
    kept = {layer: choice for layer, choice in choices.items() if layer not in fragile}
    return Quantisation(
        inputs={layer: choice.input for layer, choice in kept.items()},
        scales={layer: choice.scale for layer, choice in kept.items() if choice.scale is not None},
        errors={layer: choice.error for layer, choice in choices.items()},
        float_layers=fragile,
    )


def choose(layer: str, weight: FloatArray, observation: Observation) -> LayerChoice:
    """The strength and the clip of the least error."""
    outputs, inputs = large_outputs(layer, weight), large_inputs(observation.largest)
    observation = observation.without(inputs)  # these are float32, and so no part of the range
    rest = np.delete(weight, outputs, axis=0)
    rest[:, list(inputs)] = 0
    samples = observation.samples
    exact = samples @ rest.T
    candidates = []
    for strength, clip in product(STRENGTHS if can_smooth(layer) else (0.0,), CLIPS):
        scale = smoothing_scale(observation.largest, rest, strength) if strength else None
        divisor: FloatArray = np.ones(1, np.float32) if scale is None else scale
        low, high = float((observation.lowest / divisor).min()), float((observation.highest / divisor).max())
        quantisation = input_quantisation(low * clip, high * clip, inputs, outputs)
        integers, scales = quantise_weight(rest * divisor)
        found = dequantised(samples / divisor, quantisation) @ (integers * scales[:, None]).T
        error = float(np.sqrt(np.mean((found - exact) ** 2) / max(np.mean(exact**2), TINY)))
        candidates.append(LayerChoice(scale, quantisation, error))
    return min(candidates, key=lambda choice: choice.error)


def large_outputs(layer: str, weight: FloatArray) -> tuple[int, ...]:
    """Output channels with weights far above the others', of layers that write to the residual stream.

    Trained encoders have a few residual channels that dwarf the rest; an error there outweighs all others.
    """
    if not layer.endswith(".Wo"):
        return ()
    norms = np.linalg.norm(weight, axis=1)
    order = np.argsort(-norms)[:MOST_LARGE_OUTPUTS]
    return tuple(sorted(int(i) for i in order if norms[i] > LARGE_OUTPUT * np.median(norms)))


def large_inputs(largest: FloatArray) -> tuple[int, ...]:
    """Input channels whose ``largest`` magnitude is far above the others'."""
    order = np.argsort(-largest)[:MOST_LARGE_INPUTS]
    return tuple(sorted(int(i) for i in order if largest[i] > LARGE_INPUT * np.median(largest)))


def input_quantisation(
    low: float, high: float, float_inputs: tuple[int, ...], float_outputs: tuple[int, ...]
) -> InputQuantisation:
    """uint8 over [low, high], widened to hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(high - low, 1e-12) / 255
    return InputQuantisation(scale, round(-low / scale), float_inputs, float_outputs)


def dequantised(values: FloatArray, q: InputQuantisation) -> FloatArray:
    """What the graph's uint8 stands for."""
    result: FloatArray = (np.clip(np.round(values / q.scale) + q.zero_point, 0, 255) - q.zero_point) * q.scale
    return result.astype(np.float32)

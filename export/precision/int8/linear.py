"""The product of a linear layer in int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.graph.builder import CONTRIB, GraphBuilder, Value
from modernrank.export.graph.linear import FloatLinear

from .choose import LayerChoice
from .error_feedback import feedback_factor, round_with_feedback
from .inputs import TINY, TOKEN_MAX, InputQuantisation
from .weights import IntegerWeights, quantise_weight


@dataclass(frozen=True)
class QuantisedInput:
    """A uint8 activation, and what its product needs.

    values:      uint8 ``[.., inputs]``.
    scale, zero: scalars.
    token_scale: float32 ``[.., 1]``: what each token's products are multiplied by; None for no factor of its own.
    """

    values: Value
    scale: Value
    zero: Value
    token_scale: Value | None = None


class Int8Linear(FloatLinear):
    """Products of uint8 activations and int8 weights for the layers of ``choices``, float32 for all others.

        x ──QuantizeLinear──▶ uint8 ──┬─▶ MatMulIntegerToFloat ──▶ y        one QuantizeLinear for each input,
                                      └─▶ MatMulIntegerToFloat ──▶ ..       shared by Q, K and V, or up and gate

    Processors multiply unsigned activations by signed weights fastest. Where each token has a scale of its own, Mul by
    these scales follows the product.
    """

    def __init__(self, choices: Mapping[str, LayerChoice]) -> None:
        self._choices = choices
        self._zeros: tuple[Value, Value] | None = None
        self._factors: dict[str, FloatArray] = {}
        self._gathered: dict[Value, Value] = {}
        self._quantised: dict[Value, QuantisedInput] = {}

    def product(self, g: GraphBuilder, x: Value, layer: str, weight: FloatArray, bias: FloatArray | None) -> Value:
        choice = self._choices.get(layer)
        if choice is None:
            return super().product(g, x, layer, weight, bias)
        rows, columns = list(choice.input.float_outputs), list(choice.input.float_inputs)
        if rows and len(weight) != choice.outputs:
            raise ValueError(f"{layer} is split into parts; its float_outputs must be empty")
        others = weight.copy()
        others[rows] = 0
        dense = others.copy()
        dense[:, columns] = 0
        y = self._int8_product(g, self._quantise_input(g, x, choice.input), self._quantise_weight(layer, dense), bias)
        if columns:
            y = self._add_float_inputs(g, x, y, others, columns)
        return self._add_float_outputs(g, x, y, weight, rows) if rows else y

    def _quantise_weight(self, layer: str, weight: FloatArray) -> IntegerWeights:
        moments = self._choices[layer].moments
        if layer not in self._factors:
            self._factors = {layer: feedback_factor(moments)}  # one at a time: the parts of a layer follow each other
        scales = quantise_weight(weight, np.diag(moments)).scales
        return IntegerWeights(round_with_feedback(weight, scales, self._factors[layer]), scales)

    @staticmethod
    def _int8_product(g: GraphBuilder, x: QuantisedInput, weight: IntegerWeights, bias: FloatArray | None) -> Value:
        integers, scales = g.constant("weight", weight.integers.T), g.constant("scale", weight.scales)
        bias_value = None if bias is None else g.constant("bias", bias)
        inside = bias_value if x.token_scale is None else None  # the product adds a bias before the token's factor
        y = g.op("MatMulIntegerToFloat", x.values, integers, x.scale, scales, x.zero, None, inside, domain=CONTRIB)
        if x.token_scale is None:
            return y
        y = g.op("Mul", y, x.token_scale)
        return y if bias_value is None else g.op("Add", y, bias_value)

    def _quantise_input(self, g: GraphBuilder, x: Value, quantisation: InputQuantisation) -> QuantisedInput:
        if x not in self._quantised:
            quantise = self._quantise_tokens if quantisation.scale is None else _quantise
            self._quantised[x] = quantise(g, x, quantisation)
        return self._quantised[x]

    def _quantise_tokens(self, g: GraphBuilder, x: Value, quantisation: InputQuantisation) -> QuantisedInput:
        """Each token with a scale of its own: a 127th of its largest magnitude."""
        last = g.ints(-1)
        low, high = (g.op(kind, x, last, keepdims=1) for kind in ("ReduceMin", "ReduceMax"))
        scale = g.op("Mul", g.op("Max", high, g.op("Neg", low), g.scalar(TINY)), g.scalar(1 / TOKEN_MAX))
        scales = g.op("Reshape", scale, last)
        zero = g.constant("input_zero_point", np.array(quantisation.zero_point, np.uint8))
        if self._zeros is None:  # of equal shape in all layers
            self._zeros = g.op("Expand", zero, g.op("Shape", scales)), g.op("Shape", x)
        zeros, shape = self._zeros
        values = g.op("QuantizeLinear", g.op("Flatten", x, axis=2), scales, zeros, axis=0)
        return QuantisedInput(g.op("Reshape", values, shape), g.scalar(1.0), zero, scale)

    def _add_float_inputs(self, g: GraphBuilder, x: Value, y: Value, weight: FloatArray, columns: list[int]) -> Value:
        """Add the products of the chosen input channels, in float32, to every output."""
        with g.scope("float_inputs"):
            if x not in self._gathered:
                self._gathered[x] = g.op("Gather", x, g.constant("channels", np.array(columns, np.int64)), axis=-1)
            return g.op("Add", y, g.op("MatMul", self._gathered[x], g.constant("weight", weight[:, columns].T)))

    @staticmethod
    def _add_float_outputs(g: GraphBuilder, x: Value, y: Value, weight: FloatArray, chosen: list[int]) -> Value:
        """Add the products of the chosen output channels, in float32, at their positions."""
        with g.scope("float_outputs"):
            places = np.eye(len(weight), dtype=np.float32)[chosen]  # [chosen, outputs]
            part = g.op("MatMul", x, g.constant("weight", weight[chosen].T))
            return g.op("Add", y, g.op("MatMul", part, g.constant("places", places)))


def _quantise(g: GraphBuilder, x: Value, quantisation: InputQuantisation) -> QuantisedInput:
    """All tokens with the scale that was fixed at export."""
    scale = g.constant("input_scale", np.array(quantisation.scale, np.float32))
    zero = g.constant("input_zero_point", np.array(quantisation.zero_point, np.uint8))
    return QuantisedInput(g.op("QuantizeLinear", x, scale, zero), scale, zero)

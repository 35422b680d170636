"""The product of a linear layer in int8."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.graph.builder import CONTRIB, GraphBuilder, Value
from modernrank.export.graph.linear import FloatLinear

from .weights import InputQuantisation, quantise_weight


class Int8Linear(FloatLinear):
    """Products of uint8 activations and int8 weights for the layers in ``inputs``, float32 for all others.

        x ──QuantizeLinear──▶ uint8 ──┬─▶ MatMulIntegerToFloat ──▶ y        one QuantizeLinear for each input,
                                      └─▶ MatMulIntegerToFloat ──▶ ..       shared by Q, K and V, or up and gate

    Processors multiply unsigned activations by signed weights fastest.
    """

    def __init__(self, inputs: Mapping[str, InputQuantisation]) -> None:
        self._inputs = inputs
        self._gathered: dict[Value, Value] = {}
        self._quantised: dict[Value, tuple[Value, Value, Value]] = {}

    def product(self, g: GraphBuilder, x: Value, layer: str, weight: FloatArray, bias: FloatArray | None) -> Value:
        quantisation = self._inputs.get(layer)
        if quantisation is None:
            return super().product(g, x, layer, weight, bias)
        rows, columns = list(quantisation.float_outputs), list(quantisation.float_inputs)
        if rows and max(rows) >= len(weight):
            raise ValueError(f"{layer} is split into parts; its float_outputs must be empty")
        others = weight.copy()
        others[rows] = 0
        dense = others.copy()
        dense[:, columns] = 0
        integers, scales = quantise_weight(dense)
        uint8, x_scale, x_zero = self._quantise_input(g, x, quantisation)
        y = g.op(
            "MatMulIntegerToFloat",
            *(uint8, g.constant("weight", integers.T), x_scale, g.constant("scale", scales), x_zero, None),
            None if bias is None else g.constant("bias", bias),
            domain=CONTRIB,
        )
        if columns:
            y = self._add_float_inputs(g, x, y, others, columns)
        return self._add_float_outputs(g, x, y, weight, rows) if rows else y

    def _quantise_input(self, g: GraphBuilder, x: Value, quantisation: InputQuantisation) -> tuple[Value, Value, Value]:
        if x not in self._quantised:
            scale = g.constant("input_scale", np.array(quantisation.scale, np.float32))
            zero = g.constant("input_zero_point", np.array(quantisation.zero_point, np.uint8))
            self._quantised[x] = g.op("QuantizeLinear", x, scale, zero), scale, zero
        return self._quantised[x]

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

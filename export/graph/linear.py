"""How the product of a linear layer is spelled: ``y = x @ weight.T + bias``.

A precision with a product of its own derives from ``FloatLinear``, as ``precision/int8/linear.py`` does.
"""

from __future__ import annotations

import numpy as np

from modernrank.arrays import FloatArray

from .builder import GraphBuilder, Value


class FloatLinear:
    """Products in the type of the weight.

    >>> import numpy as np
    >>> from pathlib import Path
    >>> with GraphBuilder(Path("/dev/null")) as g, g.scope("classifier"):
    ...     FloatLinear().product(g, Value("x"), "classifier", np.eye(2, dtype=np.float32), None)
    '/classifier/MatMul'
    """

    def product(self, g: GraphBuilder, x: Value, layer: str, weight: FloatArray, bias: FloatArray | None) -> Value:
        """``x @ weight.T + bias``.

        Args:
            g: the graph, in the scope of this product.
            x: ``[.., inputs]``.
            layer: the checkpoint's name of the linear layer; ``weight`` may be a part of it.
            weight: ``[outputs, inputs]``, of the type of ``x``.
            bias: ``[outputs]``, or None.
        """
        product = g.op("MatMul", x, g.constant("weight", weight.T))
        return product if bias is None else g.op("Add", product, g.constant("bias", bias))


class Float32Sums(FloatLinear):
    """Products of float16 values that add up in float32: float32 products between casts.

    TensorRT makes one float16 product of them, as NVIDIA's own converters ask for it. Without the casts it may add up
    in float16 where that is faster.
    """

    def product(self, g: GraphBuilder, x: Value, layer: str, weight: FloatArray, bias: FloatArray | None) -> Value:
        """As in ``FloatLinear``."""
        if weight.dtype != np.float16:
            return super().product(g, x, layer, weight, bias)
        product = g.op(
            "MatMul",
            g.convert(x, np.float16, np.float32),
            g.convert(g.constant("weight", weight.T), np.float16, np.float32),
        )
        product = g.convert(product, np.float32, np.float16)
        return product if bias is None else g.op("Add", product, g.constant("bias", bias))

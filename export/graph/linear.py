"""How the product of a linear layer is spelled: ``y = x @ weight.T + bias``.

A precision with a product of its own derives from ``FloatLinear``, as ``precision/int8/linear.py`` does.
"""

from __future__ import annotations

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

"""The float type of each place of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper

FloatType = type[np.floating[Any]]

RESIDUAL = "residual"  # every layer adds to this stream


@dataclass(frozen=True)
class FloatTypes:
    """Float32 everywhere, or float16 except at the ``kept`` places, which stay float32.

    A place is ``"residual"``, ``"layers.3.attn"`` or ``"layers.3.mlp"``. The statistics of layer norms, the softmax,
    pooling, the head and the logits are float32 in every graph, because their sums require it.
    """

    default: FloatType = np.float32
    kept: frozenset[str] = frozenset()

    def of(self, place: str) -> FloatType:
        """The type of a place."""
        return np.float32 if place in self.kept else self.default


FLOAT32 = FloatTypes()


def onnx_type(dtype: FloatType) -> int:
    """ONNX's number for a type.

    >>> onnx_type(np.float32), onnx_type(np.float16)
    (1, 10)
    """
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

"""The dialects: how attention is spelled, and the ONNX version and the inputs that go with it.

``modernrank.backends.registry`` says which providers run which dialect.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from .attention import PackedAttention, StandardAttention
from .attention_gpu import DecomposedAttention, OrtCudaAttention, TensorRtAttention
from .attention_ort_cpu import OrtCpuAttention

OPSET = 23  # the first with Attention and RotaryEmbedding


@dataclass(frozen=True)
class Dialect:
    """One spelling of a model.

    attention:  writes the attention of every layer.
    opset:      version of ONNX's standard operators.
    index_type: ONNX's type of the inputs.
    """

    attention: type[PackedAttention]
    opset: int = OPSET
    index_type: int = TensorProto.INT64


DIALECTS = {
    "ort-cpu": Dialect(OrtCpuAttention),
    "standard": Dialect(StandardAttention),
    "ort-cuda": Dialect(OrtCudaAttention),
    "tensorrt": Dialect(TensorRtAttention, index_type=TensorProto.INT32),
    "tensorrt-decomposed": Dialect(
        DecomposedAttention,
        opset=20,  # the first with Gelu
        index_type=TensorProto.INT32,
    ),
}

"""The dialects: how attention is spelled, and the ONNX version and the inputs that go with it.

``modernrank.backends.registry`` says which providers run which dialect.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from .attention import BLOCK, PackedAttention, StandardAttention
from .attention_gpu import DecomposedAttention, OrtCudaAttention, OrtCudaBandAttention, TensorRtAttention
from .attention_ort_cpu import OrtCpuAttention
from .linear import Float32Sums, FloatLinear

OPSET = 23  # the first with Attention and RotaryEmbedding


@dataclass(frozen=True)
class Dialect:
    """One spelling of a model.

    attention:  writes the attention of every layer.
    short_attention: writes it in a second graph, which is faster for short rows; None if there is none.
    opset:      version of ONNX's standard operators.
    index_type: ONNX's type of the inputs.
    width_step: the number of tokens of a row must be a multiple of it.
    fused_norms: whether an addition to the residual stream and the norm after it are one node.
    linear:     how the products of linear layers are spelled, where the precision does not spell them itself.
    half_norms: whether a layer norm of float16 values is one float16 node with float32 statistics, and not a float32
                node between two casts.
    """

    attention: type[PackedAttention]
    opset: int = OPSET
    index_type: int = TensorProto.INT64
    width_step: int = 1
    short_attention: type[PackedAttention] | None = None
    linear: type[FloatLinear] = FloatLinear
    half_norms: bool = False
    fused_norms: bool = False


DIALECTS = {
    "ort-cpu": Dialect(OrtCpuAttention),
    "standard": Dialect(StandardAttention),
    "ort-cuda": Dialect(
        OrtCudaAttention,
        width_step=BLOCK,
        short_attention=OrtCudaBandAttention,
        half_norms=True,
        fused_norms=True,
    ),
    "tensorrt": Dialect(TensorRtAttention, index_type=TensorProto.INT32, width_step=BLOCK, linear=Float32Sums),
    "tensorrt-half-sums": Dialect(TensorRtAttention, index_type=TensorProto.INT32, width_step=BLOCK),
    "tensorrt-decomposed": Dialect(
        DecomposedAttention,
        opset=20,  # the first with Gelu
        index_type=TensorProto.INT32,
        width_step=BLOCK,
        linear=Float32Sums,
    ),
}

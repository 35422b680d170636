"""The dialects: how attention is spelled, for whom, and the ONNX version and inputs that they take."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from .attention import PackedAttention, StandardAttention
from .attention_gpu import DecomposedAttention, OrtCudaAttention, TensorRtAttention
from .attention_ort_cpu import OrtCpuAttention

OPSET = 23  # the first with Attention and RotaryEmbedding


@dataclass(frozen=True)
class Dialect:
    """What a runtime prefers. ``providers`` are those that it is written for."""

    attention: type[PackedAttention]
    providers: tuple[str, ...]
    opset: int = OPSET
    index_type: int = TensorProto.INT64


DIALECTS = {
    "ort-cpu": Dialect(OrtCpuAttention, ("cpu",)),
    "standard": Dialect(StandardAttention, ("cpu",)),
    "ort-cuda": Dialect(OrtCudaAttention, ("cuda",)),
    "tensorrt": Dialect(TensorRtAttention, ("tensorrt", "tensorrt-rtx"), index_type=TensorProto.INT32),
    "tensorrt-decomposed": Dialect(
        DecomposedAttention,
        ("tensorrt", "tensorrt-rtx", "ort-tensorrt"),
        opset=20,  # the first with Gelu
        index_type=TensorProto.INT32,
    ),
}

"""The dialects: how attention is spelled, and the ONNX version and the inputs that go with it.

``modernrank.backends.registry`` says which providers run which dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnx import TensorProto

from modernrank.batching.batch import INPUTS_PER_TOKEN

from .attention import BLOCK, PackedAttention, StandardAttention
from .attention_gpu import DecomposedAttention, OrtCudaAttention, OrtCudaBandAttention, TensorRtAttention
from .attention_ort_cpu import OrtCpuAttention
from .builder import IR_VERSION, OPSET, GraphBuilder, Value
from .linear import Float32Sums, FloatLinear
from .padded.attention import UnpaddedAttention
from .padded.inputs import pack_inputs


@dataclass(frozen=True)
class Layout:
    """The inputs and the output of a graph, and what stands between them and the packed rows that the layers compute.

    name:      as the manifest has it, one of ``artifact.manifest.LAYOUTS``.
    inputs:    the inputs' names and shapes.
    outputs:   the shape of the logits before their last axis, the labels.
    token_ids: gives the token ids of the packed rows, and makes ``position_ids``, ``segment_ids`` and ``slots`` where
               they are not inputs.
    logits:    what makes the output of the logits ``[rows, slots, labels]``.
    """

    name: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    token_ids: Callable[[GraphBuilder], Value]
    logits: Callable[[GraphBuilder, Value], Value]


PACKED = Layout(
    "packed",
    {**dict.fromkeys(INPUTS_PER_TOKEN, ("rows", "tokens")), "slots": ("slots",)},
    ("rows", "slots"),
    token_ids=lambda g: Value("input_ids"),
    logits=lambda g, logits: logits,
)
PADDED = Layout(
    "padded",
    dict.fromkeys(("input_ids", "attention_mask"), ("batch", "tokens")),
    ("batch",),
    token_ids=pack_inputs,
    logits=lambda g, logits: g.op("Squeeze", logits, g.ints(0)),
)


@dataclass(frozen=True)
class Dialect:
    """One spelling of a model.

    attention:  writes the attention of every layer.
    short_attention: writes it in a second graph, which is faster for short rows; None if there is none.
    opset:      version of ONNX's standard operators.
    ir_version: of the file's format.
    layout:     the inputs and the output.
    index_type: ONNX's type of the inputs.
    width_step: the number of tokens of a row must be a multiple of it.
    fused_norms: whether an addition to the residual stream and the norm after it are one node.
    linear:     how the products of linear layers are spelled, where the precision does not spell them itself.
    half_norms: whether a layer norm of float16 values is one float16 node with float32 statistics, and not a float32
                node between two casts.
    biased_norms: whether every layer norm has a bias, if only of zeros.
    """

    attention: type[PackedAttention]
    opset: int = OPSET
    ir_version: int = IR_VERSION
    layout: Layout = PACKED
    index_type: int = TensorProto.INT64
    width_step: int = 1
    short_attention: type[PackedAttention] | None = None
    linear: type[FloatLinear] = FloatLinear
    half_norms: bool = False
    fused_norms: bool = False
    biased_norms: bool = False


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
    # Opset 17 is the first with LayerNormalization, and version 8 of the format is as old. ONNX Runtime 1.17 dies of a
    # layer norm without a bias, whose size it reads where it looks for attention to fuse.
    "padded": Dialect(UnpaddedAttention, opset=17, ir_version=8, layout=PADDED, biased_norms=True),
}

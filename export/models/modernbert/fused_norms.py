"""Fuse each addition to the residual stream with the layer norm after it, for ONNX Runtime's CUDA kernels.

    hidden ─┐                            hidden ─┐
            Add ─┬─ sum                          SkipLayerNormalization ─┬─ sum
    x ──────┘    └─ LayerNormalization   x ──────┘                       └─ normed
                    └─ normed

The stream is then read once instead of twice. The kernel adds up in float32 from ONNX Runtime 1.30 on
(microsoft/onnxruntime pull request 28682); before, it added up in float16, where a square of 7,000 is infinite.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from modernrank.export.graph.builder import CONTRIB


def fuse_norms(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes with a ``SkipLayerNormalization`` for each pair of ``Add`` and ``LayerNormalization``.

    Args:
        nodes: in the order in which they run. An ``Add`` before a ``LayerNormalization`` is taken as one of the stream,
            with two inputs of the same shape.
    """
    norm_of = {node.input[0]: node for node in nodes if node.op_type == "LayerNormalization"}
    fused: list[onnx.NodeProto] = []
    gone: set[str] = set()
    for node in nodes:
        norm = norm_of.get(node.output[0]) if node.op_type == "Add" else None
        if norm is not None:
            gone.add(norm.name)
            fused.append(_fused(node, norm))
        elif node.name not in gone:
            fused.append(node)
    return fused


def _fused(add: onnx.NodeProto, norm: onnx.NodeProto) -> onnx.NodeProto:
    node = onnx.helper.make_node(
        "SkipLayerNormalization",
        [*add.input, *norm.input[1:]],
        [norm.output[0], "", "", add.output[0]],
        name=norm.name.replace("LayerNormalization", "SkipLayerNormalization"),
        domain=CONTRIB,
    )
    node.attribute.extend(attribute for attribute in norm.attribute if attribute.name == "epsilon")
    return node

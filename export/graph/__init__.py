"""Writes the packed, banded ModernBERT graph.

builder.py      nodes, scopes, constants, branches: nothing about ModernBERT
modernbert.py   the model, module by module as in ``transformers``
types.py        float32 and float16, place by place
linear.py       the products of linear layers, by precision
attention.py    global and sliding attention over packed rows, in standard operators
ort_cpu.py      the same as ONNX Runtime's CPU kernels like it
gpu.py          the same for TensorRT and for ONNX Runtime's CUDA kernels
dialects.py     the names of these spellings, and whom they are for
"""

from .dialects import DIALECTS, OPSET
from .modernbert import write_graph

__all__ = ["DIALECTS", "OPSET", "write_graph"]

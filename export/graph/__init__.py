"""Writes the packed, banded ModernBERT graph.

builder.py      nodes, scopes, constants, branches: nothing about ModernBERT
modernbert.py   the model, module by module as in ``transformers``
attention.py    global and sliding attention over packed rows, and the dialects
"""

from .attention import DIALECTS
from .modernbert import OPSET, write_graph

__all__ = ["DIALECTS", "OPSET", "write_graph"]

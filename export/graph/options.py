"""How a graph is written: its dialect, its types, and what it shows besides the logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .dialects import DIALECTS, Dialect
from .float_types import FLOAT32, RESIDUAL, FloatType, FloatTypes
from .linear import FloatLinear

# What an observed graph gives besides the logits, float32:
#   linear_inputs   what goes into each linear layer of the encoder, [rows, tokens, inputs]
#   maxima          the largest magnitude at each place, a scalar
Observed = Literal["linear_inputs", "maxima"]


@dataclass(frozen=True)
class GraphOptions:
    """How to write one graph of a model.

    dialect: one of ``DIALECTS``: how attention is spelled.
    linear:  how the products of linear layers are spelled. One object serves one graph.
    types:   the float type of each place.
    table_type: the type in which the table of embeddings is stored; None for that of the residual stream.
    observe: values that become outputs too; None for the logits alone.
    """

    dialect: str
    linear: FloatLinear = field(default_factory=FloatLinear)
    types: FloatTypes = FLOAT32
    table_type: FloatType | None = None
    observe: Observed | None = None

    @property
    def spelling(self) -> Dialect:
        """The dialect itself."""
        return DIALECTS[self.dialect]

    @property
    def embeddings(self) -> FloatType:
        """The type in which the table of embeddings is stored."""
        return self.table_type or self.types.of(RESIDUAL)

"""``Head``: what turns the hidden states of an encoder into logits.

A head is float32 in every precision: it runs once for a pair, not once for a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from modernrank.export.checkpoint.fields import Fields
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.builder import GraphBuilder, Value
from modernrank.export.models.architecture import Axes, Stream


class Head(ABC):
    """The head of one checkpoint."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Names of the logits, in their order."""

    @property
    @abstractmethod
    def pooling(self) -> str:
        """How tokens become one vector, in words: ``"cls"``."""

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every tensor."""

    @abstractmethod
    def write(self, g: GraphBuilder, weights: Weights, hidden: Value) -> tuple[Value, Value]:
        """Write the nodes of the head.

        Args:
            g: a packed graph.
            weights: the tensors that ``shapes`` names.
            hidden: what the encoder gives, float32 ``[rows, tokens, hidden_size]``.

        Returns:
            The logits, float32 ``[rows, slots, labels]``, and which slots have tokens, bool ``[rows, slots, 1]``.
        """

    @abstractmethod
    def axes(self, tensor: str, hidden: Stream) -> Axes:
        """Which axes of a tensor hold the channels of ``hidden``; see ``Architecture.axes``."""


def read_labels(fields: Fields) -> tuple[str, ...]:
    """The names of a classifier's labels in ``config.json``; two without a name if it has none, as in transformers."""
    fields.ignore(["label2id"])
    count = fields.count("num_labels", 2)
    names = fields.mapping("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
    if not all(key.isdecimal() for key in names) or sorted(map(int, names)) != list(range(len(names))):
        fields.refuse("id2label", names, "must number the labels from 0 without a gap")
    return tuple(str(names[key]) for key in sorted(names, key=int))

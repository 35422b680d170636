"""The family of ``ModernBertForSequenceClassification``: one model of transformers, with its head inside.

pooled ──▶ head.dense ──▶ activation ──▶ head.norm ──▶ classifier ──▶ logits
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from modernrank.errors import ArtifactError
from modernrank.export.checkpoint.description import Description
from modernrank.export.checkpoint.fields import Fields
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.activations import ACTIVATIONS, activation
from modernrank.export.graph.builder import GraphBuilder, Value

from .architecture import Axes, Stream
from .heads.head import Head, read_labels
from .heads.pooling import pool
from .layers import layer_norm, linear, linear_shapes, norm_shapes
from .modernbert.config import ModernBertConfig
from .modernbert.model import ModernBert

POOLINGS = ("cls", "mean")  # those of transformers


@dataclass(frozen=True)
class ClassifierHead(Head):
    """The prediction head of transformers and the classifier.

    width: of the hidden states.
    norm_eps, norm_bias: of ``head.norm``.
    bias: of ``head.dense``; the classifier always has one.
    """

    width: int
    norm_eps: float
    norm_bias: bool
    bias: bool
    activation: str
    classifier_pooling: str
    names: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.names

    @property
    def pooling(self) -> str:
        return self.classifier_pooling

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return (
            linear_shapes("head.dense", self.width, self.width, self.bias)
            | norm_shapes("head.norm", self.width, self.norm_bias)
            | linear_shapes("classifier", len(self.names), self.width)
        )

    def write(self, g: GraphBuilder, weights: Weights, hidden: Value) -> tuple[Value, Value]:
        with g.scope("pooling"):
            x, is_used = pool(g, hidden, [self.classifier_pooling])
        with g.scope("head"):
            x = activation(g, linear(g, x, "dense", weights, "head.dense", self.bias), self.activation)
            x = layer_norm(g, x, "norm", weights, "head.norm", self.norm_eps, self.norm_bias)
        return linear(g, x, "classifier", weights, "classifier"), is_used

    def axes(self, tensor: str, hidden: Stream) -> Axes:
        return ((None,), (hidden,)) if tensor == "head.dense.weight" else ()


@dataclass(frozen=True)
class SequenceClassifier(ModernBert):
    """``ModernBertForSequenceClassification`` of transformers."""

    name: ClassVar[str] = "ModernBertForSequenceClassification"

    @classmethod
    def describes(cls, description: Description) -> bool:
        return cls.name in description.architectures

    @classmethod
    def read(cls, description: Description) -> Self:
        _refuse_further_modules(description)
        fields = Fields(description.config_file)
        config = ModernBertConfig.read(fields)
        head = ClassifierHead(
            width=config.hidden_size,
            norm_eps=config.norm_eps,
            norm_bias=config.norm_bias,
            bias=fields.flag("classifier_bias"),
            activation=fields.one_of("classifier_activation", "gelu", ACTIVATIONS),
            classifier_pooling=fields.one_of("classifier_pooling", "cls", POOLINGS),
            names=read_labels(fields),
        )
        fields.warn_of_the_rest()
        return cls(config, head)


def _refuse_further_modules(description: Description) -> None:
    """Refuse modules after the model, whose head gives the logits already."""
    if len(description.modules) > 1:
        kinds = [module.kind for module in description.modules[1:]]
        raise ArtifactError(
            f"{description.modules_file}: {', '.join(kinds)} after a Transformer of the task sequence-classification "
            "would be a second head; remove them",
            path=description.modules_file,
            field="modules",
            value=kinds,
        )

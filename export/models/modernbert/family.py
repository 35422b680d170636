"""``ModernBert``: all that the exporter knows of ModernBERT sequence classifiers, in one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from modernrank.artifact.manifest import Source
from modernrank.export.checkpoint.weights import ExpectedTensors, Weights
from modernrank.export.graph.options import GraphOptions
from modernrank.export.models.architecture import Architecture, Axes, LinearLayer, ModelFacts, Published

from . import smoothing, streams
from .config import ModernBertConfig
from .graph import places, write_graph
from .published_logits import published_for
from .tensors import EMBEDDINGS, expected_shapes


@dataclass(frozen=True)
class ModernBert(Architecture):
    """``ModernBertForSequenceClassification`` of transformers."""

    name: ClassVar[str] = "ModernBertForSequenceClassification"
    config: ModernBertConfig

    @classmethod
    def read(cls, config_file: Path) -> Self:
        return cls(ModernBertConfig.read(config_file))

    @property
    def facts(self) -> ModelFacts:
        config = self.config
        return ModelFacts(
            layers=len(config.layers),
            hidden_size=config.hidden_size,
            vocabulary=config.vocab_size,
            pooling=config.classifier_pooling,
            labels=config.labels,
            max_length=config.max_position_embeddings,
            pad_token_id=config.pad_token_id,
            problem_type=config.problem_type,
        )

    def expected_tensors(self) -> ExpectedTensors:
        return ExpectedTensors(self.name, expected_shapes(self.config), EMBEDDINGS)

    def write_graph(self, weights: Weights, path: Path, options: GraphOptions) -> dict[str, str]:
        return write_graph(weights, self.config, path, options)

    def places(self) -> list[str]:
        return places(self.config)

    def linear_layers(self) -> list[LinearLayer]:
        return smoothing.linear_layers(self.config)

    def published_logits(self, source: Source) -> Sequence[Published]:
        return published_for(source)

    def absorbed_by(self, layer: str) -> tuple[str, int]:
        return smoothing.absorbed_by(layer)

    def axes(self, tensor: str) -> Axes:
        return streams.axes(self.config, tensor)

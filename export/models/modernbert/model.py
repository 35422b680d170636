"""``ModernBert``: all that the exporter knows of a ModernBERT encoder with a head. Families derive from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modernrank.export.checkpoint.weights import ExpectedTensors, Weights
from modernrank.export.graph.options import GraphOptions
from modernrank.export.models.architecture import Architecture, Axes, LinearLayer, ModelFacts
from modernrank.export.models.heads.head import Head

from . import smoothing, streams
from .config import ModernBertConfig
from .graph import ModelToWrite, places, write_graph
from .tensors import EMBEDDINGS, expected_shapes


@dataclass(frozen=True)
class ModernBert(Architecture):
    """A ModernBERT encoder with a head. A family derives from it, and says how a checkpoint describes the two."""

    config: ModernBertConfig
    head: Head

    @property
    def facts(self) -> ModelFacts:
        config = self.config
        return ModelFacts(
            layers=len(config.layers),
            hidden_size=config.hidden_size,
            vocabulary=config.vocab_size,
            pooling=self.head.pooling,
            labels=self.head.labels,
            max_length=config.max_position_embeddings,
            pad_token_id=config.pad_token_id,
            problem_type=config.problem_type,
        )

    def expected_tensors(self) -> ExpectedTensors:
        return ExpectedTensors(self.name, expected_shapes(self.config) | dict(self.head.shapes()), EMBEDDINGS)

    def write_graph(self, weights: Weights, path: Path, options: GraphOptions) -> dict[str, str]:
        return write_graph(ModelToWrite(self.config, self.head, weights), path, options)

    def places(self) -> list[str]:
        return places(self.config)

    def linear_layers(self) -> list[LinearLayer]:
        return smoothing.linear_layers(self.config)

    def absorbed_by(self, layer: str) -> tuple[str, int]:
        return smoothing.absorbed_by(layer)

    def axes(self, tensor: str) -> Axes:
        return streams.axes(self.config, self.head, tensor)

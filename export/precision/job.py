"""What the writers of every precision take and return: a ``GraphJob`` goes in, a ``WrittenGraph`` comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import pair_encoder
from modernrank.artifact.manifest import OnnxGraph, Tokenizer
from modernrank.export.checkpoint.weights import Weights
from modernrank.export.graph.builder import data_file, short_file
from modernrank.export.models.architecture import Architecture
from modernrank.export.report import Report, silent
from modernrank.options import PrecisionName
from modernrank.text.encoder import PairEncoder


@dataclass(frozen=True)
class GraphSource:
    """The source of all graphs of an artifact.

    folder:       of the checkpoint.
    architecture: the model family, with the checkpoint's config.
    weights:      the checkpoint's tensors.
    tokenizer:    what the artifact records of the tokenizer; its file is in ``folder``.
    """

    folder: Path
    architecture: Architecture
    weights: Weights
    tokenizer: Tokenizer

    def encoder(self, longest: int) -> PairEncoder:
        """Encodes pairs as the artifact will, to at most ``longest`` tokens and never more than the model accepts."""
        return pair_encoder(self.folder, self.tokenizer, min(longest, self.architecture.facts.max_length))


@dataclass(frozen=True)
class GraphJob:
    """One graph to write.

    source:      the checkpoint.
    precision, dialect: which graph.
    folder:      where the graph's files are written.
    calibration: JSON lines of pairs to run the model on; None for those that ship.
    report:      called with a line for each step.
    """

    source: GraphSource
    precision: PrecisionName
    dialect: str
    folder: Path
    calibration: Path | None = None
    report: Report = silent

    @property
    def path(self) -> Path:
        """The graph's file."""
        return self.folder / f"model.{self.precision}.onnx"

    def written(self, opset: int, layout: str = "packed", made: dict[str, Any] | None = None) -> WrittenGraph:
        """The result, after the files were written."""
        data, short = (path.name if path.is_file() else None for path in (data_file(self.path), short_file(self.path)))
        graph = OnnxGraph(self.precision, self.dialect, layout, opset, self.path.name, data, short, saturates=False)
        return WrittenGraph(graph, made or {})


@dataclass(frozen=True)
class WrittenGraph:
    """A graph that was written: its record, and what the manifest keeps of how it was made."""

    graph: OnnxGraph
    made: dict[str, Any] = field(default_factory=dict)

"""The library that says which logits of a checkpoint are right."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from modernrank.arrays import FloatArray, IntArray
from modernrank.export.models.registry import read_architecture
from modernrank.export.report import Report, silent

from .sentence_transformers_model import SentenceTransformersModel
from .transformers_model import TransformersModel


class ReferenceModel(Protocol):
    """A checkpoint that another library has loaded in float32.

    ``description`` names the versions that run it.
    """

    description: str

    def logits(self, pairs: list[IntArray], report: Report = silent) -> FloatArray:
        """Float32 logits ``[pairs, labels]`` of token ids; each pair is scored alone."""
        ...


def load_reference(checkpoint: Path, device: str = "cpu") -> ReferenceModel:
    """Load the checkpoint in a folder on torch's ``device`` with the library that its family names.

    Raises:
        ArtifactError: the checkpoint is of no known family.
    """
    if read_architecture(checkpoint).reference == "sentence-transformers":
        return SentenceTransformersModel(checkpoint, device)
    return TransformersModel(checkpoint, device)

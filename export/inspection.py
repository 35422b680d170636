"""``inspect_checkpoint``: what a checkpoint is, whether it can be exported, and what stands in the way."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from modernrank.errors import ArtifactError
from modernrank.options import EXACT

from .checkpoint.activation import read_activation
from .checkpoint.description import Description
from .checkpoint.hub import Origin, license_of, locate
from .checkpoint.tokenizer import read_tokenizer
from .checkpoint.weights import Checkpoint, ExpectedTensors
from .models.architecture import Architecture
from .models.registry import architecture_of
from .precision.registry import PRECISIONS

T = TypeVar("T")


@dataclass
class Inspection:
    """What is known of a checkpoint.

    checkpoint:  as it was asked for; ``model_id`` and ``revision`` of the hub, where it comes from there.
    license:     from its model card.
    described:   the architectures of ``config.json``, and the kinds of modules of sentence-transformers.
    family:      the family that exports it, and below that its facts; "" and zeros if there is none.
    reference:   the library that says which scores are right.
    precisions:  those in which it can be exported.
    obstacles:   why it cannot be exported, each with its remedy; none if it can.
    warnings:    what would be ignored.
    """

    checkpoint: str
    model_id: str | None = None
    revision: str | None = None
    license: str = "unknown"
    described: list[str] = field(default_factory=list)
    family: str = ""
    layers: int = 0
    hidden_size: int = 0
    parameters: int = 0
    vocabulary: int = 0
    pooling: str = ""
    labels: list[str] = field(default_factory=list)
    activation: str = ""
    max_length: int = 0
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    reference: str = ""
    precisions: list[str] = field(default_factory=list)
    weights: str = "not checked"
    obstacles: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def can_be_exported(self) -> bool:
        """Whether nothing that was checked stands in the way."""
        return not self.obstacles

    def as_json(self) -> dict[str, Any]:
        """All fields, and ``can_be_exported``."""
        return {**asdict(self), "can_be_exported": self.can_be_exported}


def inspect_checkpoint(checkpoint: str | Path, revision: str | None = None) -> Inspection:
    """Find out what a checkpoint is without exporting it. Of a hub id only the small files are downloaded.

    Args:
        checkpoint: a folder or a hub id.
        revision: commit, tag or branch of a hub id.

    Returns:
        What is known. What stands in the way of an export is listed there, and not raised.

    Raises:
        ArtifactError: ``checkpoint`` is neither a folder nor on the hub.
    """
    origin = locate(str(checkpoint), revision, with_weights=False)
    found = Inspection(str(checkpoint), origin.model_id, origin.revision, license_of(origin.folder))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        description = _tried(found, lambda: Description.read(origin.folder))
        if description is not None:
            found.described = [*description.architectures, *(module.kind for module in description.modules[1:])]
            found.prompts, found.default_prompt = dict(description.prompts.texts), description.prompts.default
            architecture = _tried(found, lambda: architecture_of(description))
            if architecture is not None:
                _inspect_model(found, origin, description, architecture)
    found.warnings = list(dict.fromkeys(str(warning.message) for warning in caught))
    return found


def _inspect_model(found: Inspection, origin: Origin, description: Description, architecture: Architecture) -> None:
    facts, expected = architecture.facts, architecture.expected_tensors()
    found.family, found.reference = architecture.name, architecture.reference
    found.layers, found.hidden_size, found.vocabulary = facts.layers, facts.hidden_size, facts.vocabulary
    found.parameters = sum(math.prod(shape) for shape in expected.shapes.values())
    found.pooling, found.labels, found.max_length = facts.pooling, list(facts.labels), facts.max_length
    found.precisions = [EXACT, *(name for name in PRECISIONS if name != EXACT)]
    found.activation = _tried(found, lambda: read_activation(origin.folder, len(facts.labels))) or ""
    limits = {"rows": facts.vocabulary, "pad_token_id": facts.pad_token_id, "max_length": facts.max_length}
    tokenizer = _tried(found, lambda: read_tokenizer(description, **limits))
    if tokenizer is not None:
        found.max_length = min(facts.max_length, tokenizer.max_length)
    if origin.model_id is not None and not any(origin.folder.glob("model*.safetensors*")):
        found.weights = "not downloaded, so not checked"
    elif _tried(found, lambda: _check_weights(origin.folder, expected)):
        found.weights = "complete"


def _check_weights(folder: Path, expected: ExpectedTensors) -> bool:
    """Check the names, shapes and types of all tensors; no values are read.

    Raises:
        ArtifactError: as ``Checkpoint``.
    """
    with Checkpoint(folder, expected):
        return True


def _tried(found: Inspection, step: Callable[[], T]) -> T | None:
    """What a step gives; None if something stands in its way, which is then listed."""
    try:
        return step()
    except ArtifactError as error:
        if str(error) not in found.obstacles:
            found.obstacles.append(str(error))
        return None

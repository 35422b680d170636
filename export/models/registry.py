"""The model families that can be exported. The first one that describes a checkpoint reads it.

A new family is one module with an ``Architecture``, and one line here. On a ModernBERT encoder it only says what its
head computes and where the checkpoint has the tensors, as ``sequence_classifier.py`` does.
"""

from __future__ import annotations

from pathlib import Path

from modernrank.errors import ArtifactError
from modernrank.export.checkpoint.description import Description

from .architecture import Architecture
from .modular_reranker import ModularReranker
from .sequence_classifier import SequenceClassifier

FAMILIES: tuple[type[Architecture], ...] = (ModularReranker, SequenceClassifier)


def read_architecture(checkpoint: Path) -> Architecture:
    """The architecture of the checkpoint in the folder ``checkpoint``.

    Raises:
        ArtifactError: it has no ``config.json``, is of an unknown family, or uses a feature that is not implemented.
    """
    return architecture_of(Description.read(checkpoint))


def architecture_of(description: Description) -> Architecture:
    """The architecture of a checkpoint whose description was read already.

    Raises:
        ArtifactError: as ``read_architecture``, but for the files of the description itself.
    """
    for family in FAMILIES:
        if family.describes(description):
            return family.read(description)
    file, names = description.config_file, description.architectures
    raise ArtifactError(
        f"{file} describes {', '.join(names) or 'no architecture'} (model_type {description.model_type!r}), and "
        f"{description.modules_file.name} {'adds no head' if description.modules else 'does not exist'}; modernrank "
        f"exports {' and '.join(family.name for family in FAMILIES)}",
        path=file,
        field="architectures",
        value=list(names),
        choices=tuple(family.name for family in FAMILIES),
    )

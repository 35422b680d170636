"""Which activation a checkpoint's own files ask for.

The first of these that is set decides, as in ``CrossEncoder`` of sentence-transformers 6.

    config_sentence_transformers.json activation_fn                           where there is a modules.json
    config.json                       sentence_transformers.activation_fn
    config.json                       sbert_ce_default_activation_function    (before version 4)
    config_sentence_transformers.json activation_fn
    otherwise                         sigmoid for one label, none for several
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError

from .modules import MODULES, SENTENCE_TRANSFORMERS

# By the last part of the name of a class of torch.
KNOWN = {"Identity": "logit", "Sigmoid": "sigmoid", "Softmax": "softmax"}
TORCH = "torch.nn."
# The classes of the same names, by what the manifest calls them.
CLASSES = {
    "logit": "torch.nn.modules.linear.Identity",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "softmax": "torch.nn.modules.activation.Softmax",
}


def read_activation(checkpoint: Path, labels: int) -> str:
    """The activation of the checkpoint in the folder ``checkpoint``, which has a ``config.json``.

    Returns:
        ``"logit"``, ``"sigmoid"`` or ``"softmax"``; the name of any other one, with a warning.

    Raises:
        ArtifactError: a field that should name the activation holds something else.
    """
    for file, field, value in _candidates(checkpoint):
        if value is None:
            continue
        if not isinstance(value, str):
            raise ArtifactError(
                f"{file}: {field} = {value!r} must be the name of a class", path=file, field=field, value=value
            )
        return _translate(value, file, field)
    return "sigmoid" if labels == 1 else "logit"


def _candidates(checkpoint: Path) -> list[tuple[Path, str, Any]]:
    """File, field and value of every place that may name the activation, in the order of precedence."""
    file = checkpoint / "config.json"
    config = read_json_object(file)
    section = config.get("sentence_transformers") or {}
    if not isinstance(section, dict):
        raise ArtifactError(
            f"{file}: sentence_transformers = {section!r} must be an object",
            path=file,
            field="sentence_transformers",
            value=section,
        )
    older = "sbert_ce_default_activation_function"
    candidates = [
        (file, "sentence_transformers.activation_fn", section.get("activation_fn")),
        (file, older, config.get(older)),
    ]
    own = checkpoint / SENTENCE_TRANSFORMERS
    if own.is_file():
        position = 0 if (checkpoint / MODULES).is_file() else len(candidates)
        candidates.insert(position, (own, "activation_fn", read_json_object(own).get("activation_fn")))
    return candidates


def _translate(name: str, file: Path, field: str) -> str:
    activation = KNOWN.get(name.rpartition(".")[2]) if name.startswith(TORCH) else None
    if activation is None:
        warnings.warn(
            f"{file}: {field} names {name}, which is not implemented, so activation='model' will be refused; choose "
            "logit, sigmoid or softmax when you score",
            stacklevel=2,
        )
        return name
    return activation

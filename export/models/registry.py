"""The model families that can be exported, by the name of the architecture in ``config.json``.

A new family is one module with an ``Architecture``, and one line here.
"""

from __future__ import annotations

from pathlib import Path

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError

from .architecture import Architecture
from .modernbert.family import ModernBert

FAMILIES: dict[str, type[Architecture]] = {family.name: family for family in (ModernBert,)}


def read_architecture(checkpoint: Path) -> Architecture:
    """The architecture of the checkpoint in the folder ``checkpoint``.

    Raises:
        ArtifactError: it has no ``config.json``, is of an unknown family, or uses a feature that is not implemented.
    """
    file = checkpoint / "config.json"
    if not file.is_file():
        raise ArtifactError(f"{checkpoint} is not a checkpoint: it has no {file.name}", path=checkpoint)
    raw = read_json_object(file)
    names = raw.get("architectures")
    names = [str(name) for name in names] if isinstance(names, list) else []
    for name in names:
        if name in FAMILIES:
            return FAMILIES[name].read(file)
    raise ArtifactError(
        f"{file} describes {', '.join(names) or 'no architecture'} (model_type {raw.get('model_type')!r}); modernrank "
        f"exports {', '.join(FAMILIES)} only",
        path=file,
        field="architectures",
        value=names,
        choices=tuple(FAMILIES),
    )

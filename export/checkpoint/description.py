"""``Description``: what the files of a checkpoint say of it, before its family is known and any tensor is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError

from .fields import Fields
from .modules import (
    MODULES,
    SENTENCE_TRANSFORMERS,
    Module,
    TransformerSettings,
    read_modules,
    read_transformer_settings,
)

# What config_sentence_transformers.json says besides, without an effect on scores. `activation.py` reads activation_fn.
WITHOUT_EFFECT = ("__version__", "activation_fn", "keep_in_fp32_modules", "requirements", "similarity_fn_name")


@dataclass(frozen=True)
class Prompts:
    """The prompts that sentence-transformers saved with a model.

    texts:   by name; a prompt is put before the query.
    default: the name of the one that is used where a call names none; None for no prompt.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None


@dataclass(frozen=True)
class Description:
    """A checkpoint as its own files describe it.

    folder:        of the checkpoint.
    architectures: the names in ``config.json``.
    model_type:    the same file's.
    modules:       those of ``modules.json``; none if sentence-transformers did not save the checkpoint.
    transformer:   the settings of the first of them; None without modules.
    prompts:       none without modules, because sentence-transformers reads them only where there are such.
    """

    folder: Path
    architectures: tuple[str, ...]
    model_type: str | None
    modules: tuple[Module, ...] = ()
    transformer: TransformerSettings | None = None
    prompts: Prompts = field(default_factory=Prompts)

    @staticmethod
    def read(folder: Path) -> Description:
        """Read the description of the checkpoint in ``folder``.

        Raises:
            ArtifactError: a file is missing, cannot be read, or says what is not implemented.
        """
        file = folder / "config.json"
        if not file.is_file():
            raise ArtifactError(f"{folder} is not a checkpoint: it has no {file.name}", path=folder)
        raw = read_json_object(file)
        names = raw.get("architectures")
        architectures = tuple(map(str, names)) if isinstance(names, list) else ()
        modules = read_modules(folder)
        return Description(
            folder,
            architectures,
            raw.get("model_type"),
            modules,
            read_transformer_settings(folder) if modules else None,
            _read_prompts(folder) if modules else Prompts(),
        )

    @property
    def config_file(self) -> Path:
        """``config.json`` of the encoder, or of the whole model without modules."""
        return self.folder / "config.json"

    @property
    def modules_file(self) -> Path:
        """``modules.json``, which may not exist."""
        return self.folder / MODULES

    @property
    def max_length(self) -> int | None:
        """The maximum number of tokens that the settings of the modules set; None if they set none."""
        return self.transformer.max_length if self.transformer else None


def _read_prompts(folder: Path) -> Prompts:
    file = folder / SENTENCE_TRANSFORMERS
    if not file.is_file():
        return Prompts()
    fields = Fields(file)
    fields.ignore(WITHOUT_EFFECT)
    model_type = fields.text("model_type", "CrossEncoder")
    if model_type != "CrossEncoder":
        fields.refuse("model_type", model_type, "is not a reranker; modernrank exports CrossEncoder only")
    texts = {name: "" if text is None else text for name, text in fields.mapping("prompts").items()}
    default = fields.take("default_prompt_name")
    if not all(isinstance(text, str) for text in texts.values()):
        fields.refuse("prompts", texts, "must map names to strings")
    if default is not None and default not in texts:
        fields.refuse(
            "default_prompt_name", default, f"is not among the prompts: {', '.join(texts) or 'there are none'}"
        )
    fields.warn_of_the_rest()
    return Prompts(texts, default)

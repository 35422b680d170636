"""``modules.json``: the modules of which sentence-transformers builds a model, in the order in which they run.

Each has a class and a folder with its own ``config.json`` and weights. The first one, ``Transformer``, is in the
checkpoint's own folder, with settings in ``sentence_bert_config.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from modernrank.errors import ArtifactError

from .fields import Fields

MODULES = "modules.json"
TRANSFORMER_SETTINGS = "sentence_bert_config.json"  # of the first module
SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"  # of the whole model: prompts, activation
PACKAGE = "sentence_transformers"
# The tasks of Transformer, and what each gives: the name of its output in transformers, and among the features.
TASKS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
}
# Arguments for loading the model that decide its speed and its rounding, not its weights.
HARMLESS_ARGUMENTS = {"torch_dtype", "dtype", "attn_implementation", "device_map", "low_cpu_mem_usage"}


@dataclass(frozen=True)
class Module:
    """One entry of ``modules.json``.

    kind:   the name of its class: ``"Dense"``.
    path:   its folder inside the checkpoint, ``""`` for the checkpoint's own.
    folder: the same as a path on this machine.
    """

    kind: str
    path: str
    folder: Path

    @property
    def config_file(self) -> Path:
        """The module's own ``config.json``."""
        return self.folder / "config.json"


@dataclass(frozen=True)
class TransformerSettings:
    """What ``sentence_bert_config.json`` says of the first module.

    task:       one of ``TASKS``.
    max_length: maximum number of tokens in a pair, where it sets one.
    """

    task: str
    max_length: int | None = None


def read_modules(checkpoint: Path) -> tuple[Module, ...]:
    """The modules of the checkpoint in a folder; none if it has no ``modules.json``.

    Raises:
        ArtifactError: the file cannot be used, or names code or a folder outside the checkpoint.
    """
    file = checkpoint / MODULES
    if not file.is_file():
        return ()
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{file} is not valid JSON ({error}); save the model again", path=file) from error
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ArtifactError(f"{file} must hold a list of modules; save the model again", path=file, value=entries)
    modules = tuple(_module(entry, file) for entry in entries)
    first = modules[0]
    if (first.kind, first.path) != ("Transformer", ""):
        _refuse(file, "type", first.kind, f"in {first.path!r} is the first module; it must be Transformer in ''")
    for module in modules[1:]:
        if module.kind == "Transformer":
            _refuse(file, "type", module.kind, "occurs twice; only models of one encoder can be exported")
        if not module.path:
            _refuse(file, "path", module.path, f"of {module.kind} must be a folder of its own")
    return modules


def _module(entry: dict[str, Any], file: Path) -> Module:
    kind, path = entry.get("type"), entry.get("path", "")
    if not isinstance(kind, str) or not kind.startswith(f"{PACKAGE}."):
        _refuse(file, "type", kind, f"is not a class of {PACKAGE}, so it would run code of the checkpoint's own")
    if not isinstance(path, str) or PurePosixPath(path).is_absolute() or "\\" in path or ":" in path:
        _refuse(file, "path", path, "must be a folder of the checkpoint; do not use this checkpoint")
    if ".." in PurePosixPath(path).parts:
        _refuse(file, "path", path, "leaves the checkpoint's folder; do not use this checkpoint")
    return Module(kind.rpartition(".")[2], path.strip("/"), file.parent / path)


def _refuse(file: Path, field: str, value: object, why: str) -> NoReturn:
    raise ArtifactError(f"{file}: {field} = {value!r} {why}", path=file, field=field, value=value)


def read_transformer_settings(checkpoint: Path) -> TransformerSettings:
    """The settings of the first module of the checkpoint in a folder; the defaults if the file does not exist.

    Raises:
        ArtifactError: a field has an effect that is not implemented, or a value that is not allowed.
    """
    file = checkpoint / TRANSFORMER_SETTINGS
    if not file.is_file():
        return TransformerSettings("feature-extraction")
    fields = Fields(file)
    task = fields.one_of("transformer_task", "feature-extraction", TASKS)
    output, feature = TASKS[task]
    modalities = fields.take("modality_config")
    allowed = [{"text": {"method": "forward", "method_output_name": name}} for name in (output, [output])]
    if modalities is not None and modalities not in allowed:
        fields.refuse("modality_config", modalities, f"is not implemented; implemented is {allowed[0]}")
    if fields.take("module_output_name", feature) != feature:
        fields.refuse("module_output_name", fields.take("module_output_name"), f"must be {feature!r} for {task}")
    if fields.flag("do_lower_case"):
        fields.refuse(
            "do_lower_case", True, "is not implemented; put a Lowercase normalizer into tokenizer.json and remove it"
        )
    _check_arguments(fields)
    fields.ignore(["unpad_inputs"])
    limit = fields.take("max_seq_length")
    settings = TransformerSettings(task, None if limit is None else fields.count("max_seq_length"))
    fields.warn_of_the_rest()
    return settings


def _check_arguments(fields: Fields) -> None:
    """Refuse arguments for loading and encoding that change a score."""
    fields.refuse_if_set(["config_args", "config_kwargs", "tokenizer_args", "processor_kwargs"])
    fields.refuse_if_set(["processing_kwargs", "query_expansion", "tokenizer_name_or_path"])
    for name in ("model_args", "model_kwargs"):
        given = fields.mapping(name)
        if set(given) - HARMLESS_ARGUMENTS:
            fields.refuse(name, given, f"is not implemented; only {', '.join(sorted(HARMLESS_ARGUMENTS))} are")

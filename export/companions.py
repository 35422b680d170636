"""The files that other runtimes look for beside a padded graph, as ``transformers`` saves them with a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError

from .checkpoint.hub import SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG
from .report import Report

COPIED = ("config.json", TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP)

# The fields of tokenizer_config.json that hold one special token each.
TOKEN_FIELDS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The fields of a token in special_tokens_map.json.
TOKEN_SETTINGS = ("content", "lstrip", "normalized", "rstrip", "single_word")


def copy_companions(checkpoint: Path, folder: Path, report: Report) -> None:
    """Copy ``config.json`` and the settings of the tokenizer of ``checkpoint`` to ``folder``.

    transformers 5 saves no ``special_tokens_map.json``, which fastembed 0.7 requires; it is then made from
    ``tokenizer_config.json``.

    Raises:
        ArtifactError: ``tokenizer_config.json`` is not valid.
    """
    for name in COPIED:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
    if not (folder / TOKENIZER_CONFIG).is_file():
        report(f"the checkpoint has no {TOKENIZER_CONFIG}; runtimes that require it cannot load the artifact")
    elif not (folder / SPECIAL_TOKENS_MAP).is_file():
        tokens = special_tokens_map(checkpoint / TOKENIZER_CONFIG)
        (folder / SPECIAL_TOKENS_MAP).write_text(
            json.dumps(tokens, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def special_tokens_map(settings_file: Path) -> dict[str, Any]:
    """The content of ``special_tokens_map.json`` for the ``tokenizer_config.json`` in ``settings_file``.

    Returns:
        A token, or a list of tokens, by its role. A token is its text, or an object with its text in ``content``.

    Raises:
        ArtifactError: the file cannot be read, or a token is neither.
    """
    settings = read_json_object(settings_file)
    tokens: dict[str, Any] = {
        field: _token(settings_file, field, settings[field]) for field in TOKEN_FIELDS if settings.get(field)
    }
    # transformers 4 wrote a list of further tokens, or an object of named ones; transformers 5 writes either as extra.
    for field in ("additional_special_tokens", "extra_special_tokens"):
        further = settings.get(field) or []
        if isinstance(further, dict):
            tokens |= {name: _token(settings_file, f"{field}.{name}", token) for name, token in further.items()}
        elif isinstance(further, list) and further:
            tokens["additional_special_tokens"] = [_token(settings_file, field, token) for token in further]
        elif further:
            raise _wrong(settings_file, field, further)
    return tokens


def _token(settings_file: Path, field: str, token: object) -> str | dict[str, Any]:
    if isinstance(token, str):
        return token
    if isinstance(token, dict) and isinstance(token.get("content"), str):
        return {name: token[name] for name in TOKEN_SETTINGS if name in token}
    raise _wrong(settings_file, field, token)


def _wrong(settings_file: Path, field: str, value: object) -> ArtifactError:
    return ArtifactError(
        f"{settings_file}: {field} = {value!r} must be a token: a text, or an object with its text in `content`; save "
        "the tokenizer again with `AutoTokenizer.from_pretrained(..).save_pretrained(..)`",
        path=settings_file,
        field=field,
        value=value,
    )

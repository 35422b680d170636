"""A checkpoint's tokenizer: what ``tokenizer_config.json`` says of token ids is honoured, or refused by name.

The reference is ``AutoTokenizer`` of transformers 5. For ModernBERT it takes ``tokenizer.json`` as it is, whatever
``tokenizer_class`` says, so the settings of single classes (``add_bos_token``, ``do_lower_case``, ..) have no effect.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from modernrank.artifact.folder import pair_encoder
from modernrank.artifact.json_records import read_json_object
from modernrank.artifact.manifest import Tokenizer
from modernrank.errors import ArtifactError, InputError
from modernrank.text.encoder import parse_tokenizer

from .description import Description
from .hub import CONVERTIBLE, TOKENIZER, TOKENIZER_CONFIG
from .special_tokens import DECODER, LISTS, check_ids_of_config, check_special_tokens

HONOURED = frozenset(["max_len", "model_max_length", "split_special_tokens", "truncation_side"])
# Fields that exist in checkpoints and do not change the ids of a ModernBERT's tokenizer in transformers 5.
WITHOUT_EFFECT = frozenset(
    [
        "__type",
        "_commit_hash",
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "backend",
        "chat_template",
        "clean_up_tokenization_spaces",
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
        "device_map",
        "do_basic_tokenize",
        "do_lower_case",
        "errors",
        "fix_mistral_regex",
        "from_slow",
        "init_inputs",
        "is_local",
        "keep_accents",
        "legacy",
        "local_files_only",
        "max_length",
        "merges_file",
        "model_input_names",
        "name_or_path",
        "never_split",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "padding_side",
        "processor_class",
        "remove_space",
        "response_schema",
        "sp_model_kwargs",
        "spaces_between_special_tokens",
        "special_tokens_map_file",
        "split_by_punct",
        "stride",
        "strip_accents",
        "tokenize_chinese_chars",
        "tokenizer_class",
        "tokenizer_file",
        "trim_offsets",
        "truncation_strategy",
        "unk_id",
        "use_default_system_prompt",
        "use_fast",
        "verbose",
        "vocab_file",
        "vocab_type",
        "wordpieces_prefix",
    ]
)
GENERIC_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend")
# A tokenizer that uses fewer of the table's rows is probably that of another model. Tables are padded by 1 % or less.
USUAL_SHARE = 0.75


def read_tokenizer(checkpoint: Path, *, rows: int, pad_token_id: int, max_length: int) -> Tokenizer:
    """The manifest's record of the tokenizer in the folder ``checkpoint``, which has a ``config.json``.

    The prompts and the limit are those of sentence-transformers, where it saved the checkpoint and they are set.
    It warns of fields that it does not know, and of a tokenizer that may be that of another model.

    Args:
        checkpoint: the folder.
        rows: of the model's embedding table.
        pad_token_id: the model's.
        max_length: the model's limit in tokens.

    Raises:
        ArtifactError: there is no ``tokenizer.json``, it cannot encode pairs, it belongs to another model, or what the
            files beside it say changes token ids in a way that an artifact does not hold.
    """
    file, settings_file = checkpoint / TOKENIZER, checkpoint / TOKENIZER_CONFIG
    settings = read_json_object(settings_file) if settings_file.is_file() else {}
    if not file.is_file():
        raise _missing(checkpoint, settings)
    _check_fields(settings, settings_file)
    own = parse_tokenizer(file)
    _check_dropout(own, file)
    splits = _flag(settings, settings_file, "split_special_tokens")
    description = Description.read(checkpoint)
    limit = min(description.max_length or _limit(settings, settings_file, max_length), max_length)
    side = settings.get("truncation_side", (own.truncation or {}).get("direction", "right"))
    prompts = description.prompts
    tokenizer = Tokenizer(file.name, pad_token_id, side, limit, splits, dict(prompts.texts), prompts.default)
    check_special_tokens(checkpoint, own, splits)
    try:
        pair_encoder(checkpoint, tokenizer, limit, vocabulary=rows)
    except InputError as error:
        raise ArtifactError(f"{settings_file}: {error}", path=settings_file, **error.details) from error
    check_ids_of_config(checkpoint, own)
    _check_share(file, own, rows)
    return tokenizer


def _limit(settings: Mapping[str, Any], file: Path, model_limit: int) -> int:
    """The tokenizer's own limit in tokens; the model's, if it has none, or a higher one."""
    name = "max_len" if "model_max_length" not in settings and "max_len" in settings else "model_max_length"
    limit = settings.get(name)
    if limit is None:
        return model_limit
    if not isinstance(limit, int | float) or isinstance(limit, bool) or math.isnan(limit) or limit < 1:
        raise ArtifactError(
            f"{file}: {name} = {limit!r} must be a number of tokens", path=file, field=name, value=limit
        )
    return int(min(limit, model_limit))  # "no limit" is written as 1e30


def _flag(settings: Mapping[str, Any], file: Path, name: str) -> bool:
    value = settings.get(name, False)
    if not isinstance(value, bool):
        raise ArtifactError(f"{file}: {name} = {value!r} must be true or false", path=file, field=name, value=value)
    return value


def _check_fields(settings: Mapping[str, Any], file: Path) -> None:
    """Refuse what needs code of the checkpoint, and warn of fields that nothing here knows."""
    auto_map = settings.get("auto_map")
    if isinstance(auto_map, list) or (isinstance(auto_map, dict) and "AutoTokenizer" in auto_map):
        raise ArtifactError(
            f"{file}: auto_map = {auto_map!r} names code of the checkpoint, which modernrank never runs. If "
            f"{TOKENIZER} holds the same tokenizer, remove the field, and compare with `modernrank verify`",
            path=file,
            field="auto_map",
            value=auto_map,
        )
    known = {*HONOURED, *WITHOUT_EFFECT, *LISTS, DECODER, "auto_map"}
    unknown = sorted(name for name in settings if name not in known and not name.endswith("_token"))
    if unknown:
        warnings.warn(
            f"{file} has unknown fields, which are ignored: {', '.join(unknown)}; check the token ids with "
            "`modernrank verify`",
            stacklevel=2,
        )


def _check_dropout(own: tokenizers.Tokenizer, file: Path) -> None:
    dropout = getattr(own.model, "dropout", None)  # BPE has it
    if dropout:
        raise ArtifactError(
            f"{file}: model.dropout = {dropout} makes the token ids of a text random; set it to null",
            path=file,
            field="model.dropout",
            value=dropout,
        )


def _check_share(file: Path, own: tokenizers.Tokenizer, rows: int) -> None:
    tokens = own.get_vocab_size(with_added_tokens=True)
    if tokens < USUAL_SHARE * rows:
        warnings.warn(
            f"{file} has {tokens} tokens, and the model's embedding table has {rows} rows; if the tokenizer is that of "
            "another model, scores mean nothing. Compare with `modernrank verify`",
            stacklevel=2,
        )


def _missing(checkpoint: Path, settings: Mapping[str, Any]) -> ArtifactError:
    """What is there instead of ``tokenizer.json``, and the line that converts it."""
    file = checkpoint / TOKENIZER
    for names, usual_class in CONVERTIBLE.items():
        if all((checkpoint / name).is_file() for name in names):
            named = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
            kind = named if named.isidentifier() and named not in GENERIC_CLASSES else usual_class
            return ArtifactError(
                f"{checkpoint} has no {TOKENIZER}, but {' and '.join(names)}. transformers converts it: "
                f'python -c "from transformers import {kind} as T; p = {str(checkpoint)!r}; '
                'T.from_pretrained(p).save_pretrained(p)"',
                path=file,
                found=list(names),
                converted_by=kind,
            )
    return ArtifactError(
        f"{checkpoint} has no {TOKENIZER}, and no other file of a tokenizer that transformers converts "
        f"({', '.join(' with '.join(names) for names in CONVERTIBLE)}); copy {TOKENIZER} of this model into it",
        path=file,
        found=[],
    )

"""A checkpoint's tokenizer: what ``tokenizer_config.json`` says of token ids is honoured, or refused by name.

The reference is ``AutoTokenizer`` of transformers 5. For ModernBERT it takes ``tokenizer.json`` as it is, whatever
``tokenizer_class`` says, so the settings of single classes (``add_bos_token``, ``do_lower_case``, ..) have no effect.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import tokenizers

from modernrank.artifact.folder import pair_encoder
from modernrank.artifact.manifest import Tokenizer
from modernrank.errors import ArtifactError, InputError
from modernrank.text.encoder import parse_tokenizer

from .description import Description
from .fields import Fields
from .hub import CONVERTIBLE, TOKENIZER, TOKENIZER_CONFIG
from .special_tokens import DECODER, LISTS, check_ids_of_config, check_special_tokens

# The limit in tokens, in the spelling of today and in an older one.
LIMIT, OLDER_LIMIT = "model_max_length", "max_len"
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


def read_tokenizer(description: Description, *, rows: int, pad_token_id: int, max_length: int) -> Tokenizer:
    """The manifest's record of a checkpoint's tokenizer.

    The prompts and the limit are those of sentence-transformers, where it saved the checkpoint and they are set.
    It warns of fields that it does not know, and of a tokenizer that may be that of another model.

    Args:
        description: of the checkpoint.
        rows: of the model's embedding table.
        pad_token_id: the model's.
        max_length: the model's limit in tokens.

    Raises:
        ArtifactError: there is no ``tokenizer.json``, it cannot encode pairs, it belongs to another model, or what the
            files beside it say changes token ids in a way that an artifact does not hold.
    """
    checkpoint = description.folder
    file, fields = checkpoint / TOKENIZER, Fields(checkpoint / TOKENIZER_CONFIG, is_optional=True)
    if not file.is_file():
        raise _missing(checkpoint, str(fields.take("tokenizer_class") or ""))
    _check_code(fields)
    own = parse_tokenizer(file)
    _check_dropout(own, file)
    splits = fields.flag("split_special_tokens")
    limit = min(description.max_length or _limit(fields, max_length), max_length)
    side = fields.take("truncation_side", (own.truncation or {}).get("direction", "right"))
    fields.ignore([*WITHOUT_EFFECT, LIMIT, OLDER_LIMIT])
    # `special_tokens.py` reads these.
    fields.ignore([*LISTS, DECODER, *(name for name in fields.names if name.endswith("_token"))])
    fields.warn_of_the_rest()
    prompts = description.prompts
    tokenizer = Tokenizer(file.name, pad_token_id, side, limit, splits, dict(prompts.texts), prompts.default)
    check_special_tokens(checkpoint, own, splits)
    try:
        pair_encoder(checkpoint, tokenizer, limit, vocabulary=rows)
    except InputError as error:
        raise ArtifactError(f"{fields.path}: {error}", path=fields.path, **error.details) from error
    check_ids_of_config(checkpoint, own)
    _check_share(file, own, rows)
    return tokenizer


def _limit(fields: Fields, model_limit: int) -> int:
    """The tokenizer's own limit in tokens; the model's, if it has none, or a higher one."""
    name = OLDER_LIMIT if LIMIT not in fields.names and OLDER_LIMIT in fields.names else LIMIT
    limit = fields.take(name)
    if limit is None:
        return model_limit
    if not isinstance(limit, int | float) or isinstance(limit, bool) or math.isnan(limit) or limit < 1:
        fields.refuse(name, limit, "must be a number of tokens")
    return int(min(limit, model_limit))  # "no limit" is written as 1e30


def _check_code(fields: Fields) -> None:
    """Refuse what needs code of the checkpoint."""
    auto_map = fields.take("auto_map")
    if isinstance(auto_map, list) or (isinstance(auto_map, dict) and "AutoTokenizer" in auto_map):
        fields.refuse(
            "auto_map",
            auto_map,
            f"names code of the checkpoint, which modernrank never runs. If {TOKENIZER} holds the same tokenizer, "
            "remove the field, and compare with `modernrank verify`",
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


def _missing(checkpoint: Path, tokenizer_class: str) -> ArtifactError:
    """What is there instead of ``tokenizer.json``, and the line that converts it."""
    file = checkpoint / TOKENIZER
    for names, usual_class in CONVERTIBLE.items():
        if all((checkpoint / name).is_file() for name in names):
            named = tokenizer_class.removesuffix("Fast")
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

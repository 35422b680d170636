"""The special tokens that the files beside ``tokenizer.json`` name, and whether ``tokenizer.json`` has them.

``transformers`` adds each token that a file names and ``tokenizer.json`` lacks, so that its text in a query or a
document becomes another id. An artifact holds ``tokenizer.json`` alone, so such a checkpoint is refused.

    tokenizer_config.json     *_token, extra_special_tokens, additional_special_tokens, added_tokens_decoder
    special_tokens_map.json   the same names, if tokenizer_config.json has no added_tokens_decoder
    added_tokens.json         {text: id}, if tokenizer_config.json has no added_tokens_decoder
    tokenizer.json            padding.pad_token, if nothing else names a pad_token
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError

from .hub import ADDED_TOKENS, SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_CONFIG

DECODER = "added_tokens_decoder"
LISTS = ("extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens")
# How a token is found in a text. `special` changes that only where special tokens are split.
FLAGS = ("lstrip", "rstrip", "normalized", "single_word")
# The ids in config.json by the token that they are of.
IDS = {f"{name}_token_id": f"{name}_token" for name in ("pad", "cls", "sep", "bos", "eos")}
REMEDY = "save the tokenizer again with `AutoTokenizer.from_pretrained(..).save_pretrained(..)` of transformers"


@dataclass(frozen=True)
class NamedToken:
    """A token that a file names: its text, the file and field, and what the file says of its id and flags."""

    text: str
    file: Path
    field: str
    id: int | None = None
    flags: Mapping[str, bool] = dataclasses.field(default_factory=dict)


def named_tokens(checkpoint: Path, tokenizer: Tokenizer) -> list[NamedToken]:
    """The tokens that the files of a checkpoint name, besides the ``added_tokens`` of its ``tokenizer``.

    Raises:
        ArtifactError: a field that should hold tokens holds something else.
    """
    named = _beside(checkpoint)
    if tokenizer.padding and not any(token.field == "pad_token" for token in named):
        named.append(NamedToken(tokenizer.padding["pad_token"], checkpoint / TOKENIZER, "padding.pad_token"))
    return named


def token_texts(checkpoint: Path, tokenizer: Tokenizer) -> list[str]:
    """The text of every special or added token of the checkpoint's ``tokenizer`` and of the other files, each once."""
    own = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    return list(dict.fromkeys([*own, *(token.text for token in named_tokens(checkpoint, tokenizer))]))


def check_special_tokens(checkpoint: Path, tokenizer: Tokenizer, splits_special_tokens: bool) -> None:
    """Refuse tokens that ``tokenizer`` lacks, or has with another id or other flags.

    Args:
        checkpoint: the folder.
        tokenizer: its ``tokenizer.json``, as the file has it.
        splits_special_tokens: whether the text of special tokens inside texts is split.

    Raises:
        ArtifactError: it names the file, the field and the token.
    """
    own = {token.content: (token_id, token) for token_id, token in tokenizer.get_added_tokens_decoder().items()}
    flags = [flag for flag in FLAGS if flag != "normalized" or tokenizer.normalizer is not None]
    flags += ["special"] if splits_special_tokens else []
    for token in named_tokens(checkpoint, tokenizer):
        if token.text not in own:
            _refuse(token, f"names {token.text!r}, which is not among the added_tokens of {TOKENIZER}")
        own_id, own_token = own[token.text]
        if token.id not in (None, own_id):
            _refuse(token, f"gives {token.text!r} the id {token.id}, and {TOKENIZER} gives it {own_id}")
        for flag in flags:
            value = getattr(own_token, flag)
            if token.flags.get(flag, value) != value:
                _refuse(token, f"has {flag} = {token.flags[flag]} for {token.text!r}, and {TOKENIZER} has {value}")


def check_ids_of_config(checkpoint: Path, tokenizer: Tokenizer) -> None:
    """Compare the ids of special tokens in ``config.json`` with those of ``tokenizer``.

    Raises:
        ArtifactError: all of them differ, so the tokenizer belongs to another model. If only the padding's differs, it
            warns: no score depends on it.
    """
    file = checkpoint / "config.json"
    config = read_json_object(file)
    texts = {token.field: token.text for token in named_tokens(checkpoint, tokenizer)}
    ids = {
        name: (config[name], tokenizer.token_to_id(texts[of]))
        for name, of in IDS.items()
        if isinstance(config.get(name), int) and of in texts
    }
    differ = {name: pair for name, pair in ids.items() if pair[0] != pair[1]}
    if "pad_token_id" not in differ:
        return
    shown = ", ".join(
        f"{name} = {in_config}, and {texts[IDS[name]]!r} is {own} in {TOKENIZER}"
        for name, (in_config, own) in differ.items()
    )
    if len(differ) == len(ids) and len({own for _, own in ids.values()}) > 1:
        raise ArtifactError(
            f"{file}: {shown}. All special tokens differ, so the tokenizer belongs to another model; copy {TOKENIZER} "
            f"and {TOKENIZER_CONFIG} of this model into {checkpoint}",
            path=file,
            field="pad_token_id",
            ids=differ,
        )
    warnings.warn(
        f"{file}: {shown}. Scores do not depend on it, but check that the tokenizer is that of this model with "
        "`modernrank verify`",
        stacklevel=2,
    )


def _beside(checkpoint: Path) -> list[NamedToken]:
    """The tokens that the files beside ``tokenizer.json`` name."""
    file = checkpoint / TOKENIZER_CONFIG
    settings = read_json_object(file) if file.is_file() else {}
    if DECODER in settings:
        return [*_of_fields(settings, file), *_of_decoder(settings[DECODER], file)]
    in_map = checkpoint / SPECIAL_TOKENS_MAP
    fields = read_json_object(in_map) if in_map.is_file() else {}
    replaced = {name: value for name, value in settings.items() if name not in fields or name in LISTS}
    added = checkpoint / ADDED_TOKENS
    ids = read_json_object(added) if added.is_file() else {}
    return [*_of_fields(replaced, file), *_of_fields(fields, in_map), *_of_added(ids, added)]


def _of_fields(fields: Mapping[str, Any], file: Path) -> Iterator[NamedToken]:
    """Tokens of the fields that ``tokenizer_config.json`` and ``special_tokens_map.json`` share."""
    for name, value in fields.items():
        if name.endswith("_token") and value is not None and not isinstance(value, bool):
            yield NamedToken(_text(value, file, name), file, name)
        if name not in LISTS or not value:
            continue
        if name == "additional_special_tokens" and fields.get("extra_special_tokens"):
            continue  # transformers reads one of the two
        if not isinstance(value, list | dict):
            _refuse_value(file, name, value)
        for token in value.values() if isinstance(value, dict) else value:
            yield NamedToken(_text(token, file, name), file, name)


def _of_decoder(decoder: Any, file: Path) -> Iterator[NamedToken]:
    if not isinstance(decoder, dict):
        _refuse_value(file, DECODER, decoder)
    for token_id, token in decoder.items():
        if not token_id.isdecimal() or not isinstance(token, dict):
            _refuse_value(file, DECODER, {token_id: token})
        flags = {name: token[name] for name in (*FLAGS, "special") if name in token}
        yield NamedToken(_text(token, file, DECODER), file, DECODER, int(token_id), flags)


def _of_added(ids: Mapping[str, Any], file: Path) -> Iterator[NamedToken]:
    for text, token_id in ids.items():
        if not isinstance(token_id, int):
            _refuse_value(file, text, token_id)
        yield NamedToken(text, file, text, token_id)


def _text(value: Any, file: Path, name: str) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else _refuse_value(file, name, value)


def _refuse_value(file: Path, name: str, value: Any) -> Any:
    raise ArtifactError(
        f"{file}: {name} = {value!r} must name tokens by their text; {REMEDY}", path=file, field=name, value=value
    )


def _refuse(token: NamedToken, why: str) -> None:
    raise ArtifactError(
        f"{token.file}: {token.field} {why}. transformers encodes texts by both files, and an artifact holds "
        f"{TOKENIZER} alone; {REMEDY}",
        path=token.file,
        field=token.field,
        token=token.text,
    )

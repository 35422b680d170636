"""The kinds of tokenizers that ModernBERT rerankers have, each as a small checkpoint, made without torch or network.

    PYTHONPATH=tests python -m support.tokenizer_kinds FOLDER      writes all of them into FOLDER

``SUPPORTED`` are those that encode as ``transformers`` does. ``REFUSED`` are those whose files say more of token ids
than ``tokenizer.json`` does, or that cannot encode pairs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .small_checkpoint import write_small_checkpoint
from .small_tokenizers import (
    bert_processing,
    byte_level,
    characters,
    dropping_out,
    embedding,
    gemma,
    in_sequence,
    in_vocabulary_only,
    llama,
    lower_case,
    modernbert,
    padded_with_another_token,
    roberta,
    single_only,
    unigram,
    unigram_without_a,
    with_added_tokens,
    without_unknown,
    wordpiece,
)

GENERIC = "PreTrainedTokenizerFast"
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
BERT = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
ADDS_BOTH = {"add_bos_token": True, "add_eos_token": True}
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}


@dataclass(frozen=True)
class Kind:
    """A checkpoint's tokenizer.

    make:     the tokenizer; never changed by a caller.
    settings: ``tokenizer_config.json``.
    files:    other JSON files, by name.
    config:   fields of ``config.json``.
    rows:     of the table of embeddings; None for one for each token.
    field:    what an error names, if the checkpoint is refused.
    text:     a text that ``transformers`` encodes otherwise than ``tokenizer.json`` alone, if that is why.
    """

    make: Callable[[], Tokenizer]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rows: int | None = None
    field: str | None = None
    text: str | None = None

    def write(self, folder: Path) -> Path:
        """Write the checkpoint to the new ``folder``, and return it."""
        tokenizer = self.make()
        pad = self.settings.get("pad_token")
        pad_token_id = tokenizer.token_to_id(pad) if isinstance(pad, str) else 0
        write_small_checkpoint(
            folder, tokenizer, self.settings, pad_token_id=pad_token_id or 0, rows=self.rows, config=self.config
        )
        for name, content in self.files.items():
            (folder / name).write_text(json.dumps(content))
        return folder


def decoder(text: str, token_id: int, **flags: bool) -> dict[str, Any]:
    """A field ``added_tokens_decoder`` with one token."""
    return {"added_tokens_decoder": {str(token_id): {"content": text, **FLAGS, **flags}}}


SUPPORTED: Mapping[str, Kind] = {
    "ModernBERT": Kind(modernbert, BERT),
    "Gemma, as mmBERT": Kind(gemma, {"tokenizer_class": "GemmaTokenizerFast", **GEMMA}),
    "Gemma, eos only in the settings": Kind(
        lambda: gemma("<bos> $A", "<bos> $A <bos>:1 $B:1"), {"tokenizer_class": "GemmaTokenizer", **ADDS_BOTH, **GEMMA}
    ),
    "Gemma, of a generic class": Kind(
        lambda: gemma("<bos> $A", "<bos> $A <bos>:1 $B:1"), {"tokenizer_class": GENERIC, **ADDS_BOTH, **GEMMA}
    ),
    "Gemma, doubled separator": Kind(
        lambda: gemma(pair="<bos> $A <eos> <eos> $B:1 <eos>:1"), {"tokenizer_class": GENERIC, **GEMMA}
    ),
    "Llama, bos and eos around each text": Kind(
        lambda: llama(pair="<s> $A </s> <s>:1 $B:1 </s>:1"),
        {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, **ADDS_BOTH, **LLAMA},
    ),
    "Llama, eos only in the settings": Kind(
        lambda: llama("<s> $A", "<s> $A <s>:1 $B:1"), {"tokenizer_class": "LlamaTokenizer", **ADDS_BOTH, **LLAMA}
    ),
    "Llama, metaspace": Kind(
        lambda: llama(metaspace=True), {"tokenizer_class": "LlamaTokenizerFast", "legacy": False, **ADDS_BOTH, **LLAMA}
    ),
    "Llama, of a generic class": Kind(llama, {"tokenizer_class": GENERIC, **LLAMA}),
    **{
        f"Unigram, metaspace {scheme}": Kind(functools.partial(unigram, scheme), {"tokenizer_class": GENERIC, **LLAMA})
        for scheme in ("always", "first", "never")
    },
    "Unigram, of Llama's class": Kind(
        lambda: unigram("never"), {"tokenizer_class": "LlamaTokenizer", **ADDS_BOTH, **LLAMA}
    ),
    "Unigram, two tokens for a": Kind(unigram_without_a, {"tokenizer_class": "XLMRobertaTokenizerFast", **LLAMA}),
    "characters, none of them Latin": Kind(characters, {"tokenizer_class": GENERIC, **LLAMA}),
    "no post-processor": Kind(byte_level, {**ADDS_BOTH, **BERT}),
    "no last separator": Kind(lambda: modernbert("[CLS] $A [SEP] $B"), BERT),
    "template of single texts only": Kind(single_only, BERT),
    "template in a sequence": Kind(in_sequence, BERT),
    "BertProcessing": Kind(bert_processing, {"tokenizer_class": "BertTokenizer", **BERT}),
    "RobertaProcessing": Kind(roberta, {"tokenizer_class": "RobertaTokenizerFast", **LLAMA}),
    "RobertaProcessing, prefix space": Kind(lambda: roberta(True), {"tokenizer_class": GENERIC, **LLAMA}),
    "Roberta, prefix space only in the settings": Kind(
        roberta, {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True, **LLAMA}
    ),
    "WordPiece, lower case": Kind(
        lambda: wordpiece(True), {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True, **BERT}
    ),
    "WordPiece, case only in the settings": Kind(
        lambda: wordpiece(True), {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False, **BERT}
    ),
    "WordPiece, lower case only in the settings": Kind(
        lambda: wordpiece(False), {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True, **BERT}
    ),
    "lower case without accents": Kind(lower_case, BERT),
    "unknown characters vanish": Kind(without_unknown, {"pad_token": "[PAD]"}),
    "added tokens": Kind(with_added_tokens, {"additional_special_tokens": ["[QUERY]"], **BERT}),
    "special tokens split": Kind(with_added_tokens, {"split_special_tokens": True, **BERT}),
    "padding and truncation in the file": Kind(embedding, BERT),
    "left truncation in the file": Kind(lambda: embedding("left"), BERT),
    "left truncation in the settings": Kind(modernbert, {**BERT, "truncation_side": "left", "model_max_length": 16}),
    "left padding": Kind(modernbert, {**BERT, "padding_side": "left"}),
    "token types": Kind(
        lambda: wordpiece(True), {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"], **BERT}
    ),
    "tokens as objects, decoder": Kind(
        modernbert,
        {
            **BERT,
            **decoder("[SEP]", 2),
            "sep_token": {"__type": "AddedToken", "content": "[SEP]", **FLAGS},
            "extra_special_tokens": ["[MASK]"],
            "additional_special_tokens": ["not read"],
        },
        {"special_tokens_map.json": {"sep_token": "not read"}, "added_tokens.json": {"not read": 600}},
    ),
    "older files of special tokens": Kind(
        modernbert,
        {"sep_token": "not read", "pad_token": "[PAD]"},
        {
            "special_tokens_map.json": {**BERT, "sep_token": {"content": "[SEP]", **FLAGS}},
            "added_tokens.json": {"[MASK]": 4},
        },
    ),
}

REFUSED: Mapping[str, Kind] = {
    "second text first": Kind(lambda: modernbert("$B:1 [SEP]:1 $A [SEP]"), BERT, field="post_processor"),
    "first text twice": Kind(lambda: modernbert("$A [SEP] $A [SEP] $B"), BERT, field="post_processor"),
    "token only in the decoder": Kind(
        modernbert, {**BERT, **decoder("[QUERY]", 600)}, rows=640, field="added_tokens_decoder", text="a [QUERY] b"
    ),
    "token only in extra_special_tokens": Kind(
        modernbert,
        {**BERT, "extra_special_tokens": ["[QUERY]"]},
        rows=640,
        field="extra_special_tokens",
        text="a [QUERY] b",
    ),
    "token only in extra_special_tokens by name": Kind(
        modernbert,
        {**BERT, "extra_special_tokens": {"query_token": "[QUERY]"}},
        rows=640,
        field="extra_special_tokens",
        text="a [QUERY] b",
    ),
    "token only in additional_special_tokens": Kind(
        modernbert,
        {**BERT, "additional_special_tokens": ["[QUERY]"]},
        rows=640,
        field="additional_special_tokens",
        text="a [QUERY] b",
    ),
    "token only in a field of its own": Kind(
        modernbert, {**BERT, "query_token": "[QUERY]"}, rows=640, field="query_token", text="a [QUERY] b"
    ),
    "separator of another name": Kind(
        modernbert, {**BERT, "sep_token": "</s>"}, rows=640, field="sep_token", text="a </s> b"
    ),
    "token only in special_tokens_map.json": Kind(
        modernbert,
        BERT,
        {"special_tokens_map.json": {"additional_special_tokens": ["[QUERY]"]}},
        rows=640,
        field="additional_special_tokens",
        text="a [QUERY] b",
    ),
    "token only in added_tokens.json": Kind(
        modernbert, BERT, {"added_tokens.json": {"[QUERY]": 600}}, rows=640, field="[QUERY]", text="a [QUERY] b"
    ),
    "special token of the vocabulary only": Kind(in_vocabulary_only, BERT, field="mask_token", text="a [MASK] b"),
    "padding's token of the file": Kind(
        padded_with_another_token, {}, rows=640, field="padding.pad_token", text="a <none> b"
    ),
    **{
        f"other flag: {flag}": Kind(
            modernbert, {**BERT, **decoder("[SEP]", 2, **{flag: True})}, field="added_tokens_decoder", text=text
        )
        for flag, text in (("lstrip", "a [SEP] b"), ("rstrip", "a [SEP] b"), ("single_word", "a[SEP]b"))
    },
    "other flag: normalized": Kind(
        modernbert, {**BERT, **decoder("[SEP]", 2, normalized=True)}, field="added_tokens_decoder"
    ),
    "another id": Kind(modernbert, {**BERT, **decoder("[SEP]", 3)}, field="added_tokens_decoder"),
    "tokens that are numbers": Kind(modernbert, {**BERT, "extra_special_tokens": [7]}, field="extra_special_tokens"),
    "split as a word": Kind(modernbert, {**BERT, "split_special_tokens": "yes"}, field="split_special_tokens"),
    "code of its own": Kind(
        modernbert, {**BERT, "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}, field="auto_map"
    ),
    "random ids": Kind(dropping_out, BERT, field="model.dropout"),
    "another side": Kind(modernbert, {**BERT, "truncation_side": "LEFT"}, field="truncation_side"),
    "another model's ids": Kind(
        modernbert, BERT, config={"pad_token_id": 9, "cls_token_id": 7, "sep_token_id": 8}, field="pad_token_id"
    ),
}


def write_all(folder: Path) -> dict[str, Path]:
    """Write every kind into the new ``folder``; the checkpoints by name."""
    kinds = {**SUPPORTED, **REFUSED}
    return {name: kind.write(folder / str(number)) for number, (name, kind) in enumerate(kinds.items())}


if __name__ == "__main__":
    for written_name, path in write_all(Path(sys.argv[1])).items():
        print(path, written_name)

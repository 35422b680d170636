"""A checkpoint with the shapes of mmBERT-base: a Gemma-like tokenizer of 256,000 tokens and 22 layers of width 768."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from .small_checkpoint import write_small_checkpoint
from .small_tokenizers import with_template
from .tokenizer_kinds import GEMMA

TOKENS, WIDTH, INNER, LAYERS, HEADS = 256_000, 768, 1152, 22, 12
LETTERS = "▁eatoinshrdlucmfwygpbvkxqjz日本東京"
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")


def large_tokenizer() -> Tokenizer:
    """BPE with byte fallback, ``TOKENS`` tokens and about twice as many merges, as Gemma has them."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *(f"<0x{i:02X}>" for i in range(256)), *LETTERS])}
    merges: list[tuple[str, str]] = []
    for length in itertools.count(2):
        for letters in itertools.product(LETTERS, repeat=length):
            if len(vocabulary) == TOKENS:
                return _gemma(vocabulary, merges)
            token = "".join(letters)
            vocabulary[token] = len(vocabulary)
            merges += dict.fromkeys([(token[:-1], token[-1]), (token[0], token[1:])])
    raise AssertionError


def _gemma(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens(list(SPECIAL))
    return with_template(tokenizer, "<bos> $A <eos>", "<bos> $A <eos> $B <eos>")


def write_large_checkpoint(folder: Path, layers: int = LAYERS, dtype: type = np.float32) -> Path:
    """Write the checkpoint to the new ``folder``, and return it."""
    write_small_checkpoint(
        folder,
        large_tokenizer(),
        {"tokenizer_class": "GemmaTokenizerFast", **GEMMA},
        shape=(WIDTH, INNER, layers, HEADS),
        dtype=dtype,
    )
    return folder

"""A ModernBERT that is small enough to ship, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ModernBertConfig, ModernBertForSequenceClassification, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[CLS]", "[SEP]"]
PAD, CLS, SEP = range(3)  # the ids of the special tokens
VOCABULARY = 8000
# On a CPU, the backward pass of PyTorch's fused attention is slow. A step with eager attention takes 0.55 to 0.6 of the
# time.
ATTENTION = "eager"


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Train a byte-level BPE of lower-cased text, with ModernBERT's template of a pair."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer


def new_model(seed: int) -> ModernBertForSequenceClassification:
    """Make the untrained model: 2.8 million float32 parameters, from PyTorch's generator of this seed.

    Layers 0, 2 and 4 attend to the whole pair, layers 1, 3 and 5 to 64 tokens on either side.
    """
    torch.manual_seed(seed)
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=160,
        intermediate_size=320,
        num_hidden_layers=6,
        num_attention_heads=5,
        global_attn_every_n_layers=2,
        local_attention=128,
        max_position_embeddings=8192,
        classifier_pooling="mean",
        num_labels=1,
        pad_token_id=PAD,
        cls_token_id=CLS,
        bos_token_id=CLS,
        sep_token_id=SEP,
        eos_token_id=SEP,
        attn_implementation=ATTENTION,
    )
    return ModernBertForSequenceClassification(config)


def load_model(folder: Path) -> ModernBertForSequenceClassification:
    """Load a checkpoint in float32, to train it further."""
    return ModernBertForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=ATTENTION
    )


def save_checkpoint(
    model: ModernBertForSequenceClassification, tokenizer: Tokenizer, max_tokens: int, folder: Path
) -> None:
    """Write the model, which becomes float16, and its tokenizer as transformers reads them.

    Args:
        model: The model; its weights change to float16 in place.
        tokenizer: The tokenizer.
        max_tokens: The maximum of a pair's tokens, for the tokenizer's configuration.
        folder: The checkpoint's folder.
    """
    model.half().save_pretrained(folder)
    names = dict(zip(("pad_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_tokens, **names).save_pretrained(folder)

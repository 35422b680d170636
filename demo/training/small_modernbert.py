"""The model: a ModernBERT small enough to ship, its tokenizer, and where its weights start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ModernBertConfig, ModernBertForSequenceClassification

SPECIAL = ["[PAD]", "[CLS]", "[SEP]"]
PAD, CLS, SEP = range(3)  # their ids
VOCABULARY = 8000
# On a CPU the backward pass of the fused kernel is slow: without it a step takes 0.55 to 0.6 of the time.
ATTENTION = "eager"


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """A byte-level BPE of lower-cased text, with ModernBERT's template of a pair."""
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
    """The untrained model: layers 0, 2 and 4 see everything, the others 64 tokens to either side."""
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
    """A checkpoint to train further, in float32."""
    return ModernBertForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=ATTENTION
    )

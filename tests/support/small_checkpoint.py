"""A small ModernBERT reranker of random weights with any tokenizer, written without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from .checkpoints import checkpoint

SHAPE = (32, 48, 4, 4)  # width, inner width, layers, heads
TOKENS = 512


def write_small_checkpoint(
    folder: Path,
    tokenizer: Tokenizer,
    settings: Mapping[str, Any],
    *,
    pad_token_id: int = 0,
    rows: int | None = None,
    config: Mapping[str, Any] | None = None,
    shape: tuple[int, int, int, int] = SHAPE,
    dtype: type = np.float32,
) -> Path:
    """Write the checkpoint to the new ``folder``, and return it.

    Args:
        folder: where.
        tokenizer: becomes ``tokenizer.json``.
        settings: become ``tokenizer_config.json``.
        pad_token_id: the model's.
        rows: of the table of embeddings; by default one for each token.
        config: fields of ``config.json`` that replace the small ones.
        shape: width, inner width, layers and heads.
        dtype: of the tensors.
    """
    width, inner, layers, heads = shape
    folder.mkdir(parents=True)
    rows = rows or tokenizer.get_vocab_size()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": TOKENS, **settings}))
    small = json.loads((checkpoint("tiny") / "config.json").read_text()) | {
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": TOKENS,
        "pad_token_id": pad_token_id,
    }
    for name in ("layer_types", "cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"):
        small.pop(name, None)
    (folder / "config.json").write_text(json.dumps(small | dict(config or {})))
    save_file(
        random_tensors(rows, width, inner, layers, dtype), folder / "model.safetensors", metadata={"format": "pt"}
    )
    return folder


def random_tensors(rows: int, width: int, inner: int, layers: int, dtype: type) -> dict[str, np.ndarray]:
    """Tensors of a classifier with one label, wide enough that every token and every layer moves the logits."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) * np.float32(1.5 * shape[-1] ** -0.5)).astype(dtype)

    ones: np.ndarray = np.ones(width, dtype)
    tensors = {
        "model.embeddings.tok_embeddings.weight": normal(rows, width),
        "model.embeddings.norm.weight": ones,
        "model.final_norm.weight": ones,
        "head.dense.weight": normal(width, width),
        "head.norm.weight": ones,
        "classifier.weight": normal(1, width),
        "classifier.bias": np.zeros(1, dtype),
    }
    for i in range(layers):
        layer = f"model.layers.{i}"
        tensors |= {
            f"{layer}.attn.Wqkv.weight": normal(3 * width, width),
            f"{layer}.attn.Wo.weight": normal(width, width),
            f"{layer}.mlp.Wi.weight": normal(2 * inner, width),
            f"{layer}.mlp.Wo.weight": normal(width, inner),
            f"{layer}.mlp_norm.weight": ones,
        }
        if i:
            tensors[f"{layer}.attn_norm.weight"] = ones
    return tensors

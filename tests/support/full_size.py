"""A checkpoint with the shapes of ModernBERT-base and random weights, which nothing has to download."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .checkpoints import checkpoint

WIDTH, INNER, LAYERS, HEADS, VOCABULARY, TOKENS = 768, 1152, 22, 12, 50368, 8192


def write_full_size(folder: Path) -> Path:
    """Write the checkpoint, with the tokenizer of ``tiny``, to the new ``folder``, and return it."""
    tiny = checkpoint("tiny")
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny / name, folder / name)
    config = json.loads((tiny / "config.json").read_text())
    config |= {
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": TOKENS,
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
    }
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_random_tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _random_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape, np.float32) * 0.02).astype(np.float16)

    ones = np.ones(WIDTH, np.float16)
    tensors = {
        "model.embeddings.tok_embeddings.weight": normal(VOCABULARY, WIDTH),
        "model.embeddings.norm.weight": ones,
        "model.final_norm.weight": ones,
        "head.dense.weight": normal(WIDTH, WIDTH),
        "head.norm.weight": ones,
        "classifier.weight": normal(1, WIDTH),
        "classifier.bias": np.zeros(1, np.float16),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        tensors |= {
            f"{layer}.attn.Wqkv.weight": normal(3 * WIDTH, WIDTH),
            f"{layer}.attn.Wo.weight": normal(WIDTH, WIDTH),
            f"{layer}.mlp.Wi.weight": normal(2 * INNER, WIDTH),
            f"{layer}.mlp.Wo.weight": normal(WIDTH, INNER),
            f"{layer}.mlp_norm.weight": ones,
        }
        if i:
            tensors[f"{layer}.attn_norm.weight"] = ones
    return tensors

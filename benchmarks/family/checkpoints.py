"""Checkpoints with the shapes of the Ettin rerankers and random weights, written without torch, a layer at a time.

Sizes are those of the encoders' training configurations (JHU-CLSP/ettin-encoder-vs-decoder, ``pretraining/configs``):
50,368 tokens, 7,999 positions, both RoPE bases 160,000. The head is that of ``cross-encoder/ettin-reranker-*-v1``: the
first token, Dense with GELU, LayerNorm, Dense.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from modernrank.arrays import FloatArray

VOCABULARY, POSITIONS, THETA = 50_368, 7_999, 160_000.0
PACKAGE = "sentence_transformers"
GELU, IDENTITY = "torch.nn.modules.activation.GELU", "torch.nn.modules.linear.Identity"


@dataclass(frozen=True)
class Size:
    """Widths and counts of one model of the family."""

    width: int
    layers: int
    heads: int
    inner: int


SIZES = {
    "17M": Size(256, 7, 4, 384),
    "32M": Size(384, 10, 6, 576),
    "68M": Size(512, 19, 8, 768),
    "150M": Size(768, 22, 12, 1152),
    "400M": Size(1024, 28, 16, 2624),
    "1B": Size(1792, 28, 28, 3840),
}


def write_checkpoint(folder: Path, size: Size, tokenizer: Path, seed: int = 0) -> None:
    """Write a checkpoint with random weights to the new ``folder``.

    Args:
        folder: where.
        size: of the model.
        tokenizer: a folder with ``tokenizer.json`` and ``tokenizer_config.json``, whose ids are below VOCABULARY.
        seed: of the weights.
    """
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    pad = json.loads((tokenizer / "config.json").read_text(encoding="utf-8"))["pad_token_id"]
    _write_json(folder / "config.json", _config(size, pad))
    rng = np.random.default_rng(seed)
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(_encoder(size, rng)):
        file = f"model-{number:05}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    _write_head(folder, size.width, rng)


def _config(size: Size, pad_token_id: int) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": THETA}
    return {
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "vocab_size": VOCABULARY,
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": pad_token_id,
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope},
    }


def _random(rng: np.random.Generator, outputs: int, inputs: int) -> FloatArray:
    values: FloatArray = rng.standard_normal((outputs, inputs), np.float32)
    values *= np.float32(inputs**-0.5)
    return values


def _encoder(size: Size, rng: np.random.Generator) -> Iterator[dict[str, FloatArray]]:
    """The tensors of the encoder, in parts: the embeddings, each layer, and the last norm."""
    width, ones = size.width, np.ones(size.width, np.float32)
    yield {
        "embeddings.tok_embeddings.weight": _random(rng, VOCABULARY, width),
        "embeddings.norm.weight": ones,
        "final_norm.weight": ones.copy(),
    }
    for i in range(size.layers):
        layer = {
            "attn.Wqkv": _random(rng, 3 * width, width),
            "attn.Wo": _random(rng, width, width),
            "mlp_norm": ones,
            "mlp.Wi": _random(rng, 2 * size.inner, width),
            "mlp.Wo": _random(rng, width, size.inner),
        }
        if i:
            layer["attn_norm"] = ones.copy()
        yield {f"layers.{i}.{name}.weight": values for name, values in layer.items()}


def _write_head(folder: Path, width: int, rng: np.random.Generator) -> None:
    pooling = {"embedding_dimension": width, "pooling_mode": "cls", "include_prompt": True}
    pooled = {"in_features": width, "module_input_name": "sentence_embedding"}
    hidden = {**pooled, "out_features": width, "bias": False, "activation_function": GELU}
    scores = {**pooled, "out_features": 1, "bias": True, "activation_function": IDENTITY}
    modules: list[tuple[str, str, dict[str, Any], dict[str, FloatArray]]] = [
        ("sentence_transformer.modules.pooling.Pooling", "1_Pooling", pooling, {}),
        ("base.modules.dense.Dense", "2_Dense", hidden, {"linear.weight": _random(rng, width, width)}),
        (
            "sentence_transformer.modules.layer_norm.LayerNorm",
            "3_LayerNorm",
            {"dimension": width},
            {"norm.weight": np.ones(width, np.float32), "norm.bias": np.zeros(width, np.float32)},
        ),
        (
            "base.modules.dense.Dense",
            "4_Dense",
            {**scores, "module_output_name": "scores"},
            {"linear.weight": _random(rng, 1, width), "linear.bias": np.zeros(1, np.float32)},
        ),
    ]
    entries = [{"idx": 0, "name": "0", "path": "", "type": f"{PACKAGE}.base.modules.transformer.Transformer"}]
    for number, (kind, path, config, tensors) in enumerate(modules, start=1):
        entries.append({"idx": number, "name": str(number), "path": path, "type": f"{PACKAGE}.{kind}"})
        (folder / path).mkdir()
        _write_json(folder / path / "config.json", config)
        if tensors:
            save_file(tensors, folder / path / "model.safetensors", {"format": "pt"})
    _write_json(folder / "modules.json", entries)
    _write_json(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder", "activation_fn": IDENTITY})


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")

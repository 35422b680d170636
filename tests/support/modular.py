"""Modular rerankers: the encoder of ``tiny`` with heads of sentence-transformers modules, written without torch.

``tests/make_test_data.py`` records what sentence-transformers makes of them in ``tests/data/modular-golden.json``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from .checkpoints import DATA, checkpoint

GOLDEN = DATA / "modular-golden.json"
WIDTH = 32  # of the encoder
TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
}
OLDER_TYPES = {name: f"sentence_transformers.models.{name}" for name in TYPES}
ACTIVATION = "torch.nn.modules.activation."
IDENTITY = "torch.nn.modules.linear.Identity"
Config = dict[str, Any]


def pooling(mode: str | list[str], width: int = WIDTH) -> tuple[str, Config]:
    return "Pooling", {"embedding_dimension": width, "pooling_mode": mode, "include_prompt": True}


def dense(inputs: int, outputs: int, activation: str = IDENTITY, **others: Any) -> tuple[str, Config]:
    given = {"in_features": inputs, "out_features": outputs, "bias": True, "activation_function": activation}
    return "Dense", {**given, "module_input_name": "sentence_embedding", **others}


def norm(width: int) -> tuple[str, Config]:
    return "LayerNorm", {"dimension": width}


def scores(inputs: int, labels: int = 1) -> tuple[str, Config]:
    return dense(inputs, labels, module_output_name="scores")


@dataclass(frozen=True)
class Chain:
    """A head.

    modules:    kind and config of each, after Transformer.
    labels:     their names, where there are several.
    types:      how modules.json spells the classes.
    activation: what config_sentence_transformers.json asks for.
    """

    modules: list[tuple[str, Config]]
    labels: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=lambda: TYPES)
    activation: str = IDENTITY


GELU = f"{ACTIVATION}GELU"
OLDER_POOLING = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
CHAINS = {
    "ettin": Chain([pooling("cls"), dense(32, 32, GELU, bias=False), norm(32), scores(32)]),
    "mean, tanh": Chain(
        [pooling("mean"), dense(32, 16, f"{ACTIVATION}Tanh"), scores(16)], activation=f"{ACTIVATION}Sigmoid"
    ),
    "max": Chain([pooling("max"), dense(32, 32, f"{ACTIVATION}SiLU"), scores(32)]),
    "mean over square root": Chain([pooling("mean_sqrt_len_tokens"), norm(32), scores(32)]),
    "weighted mean": Chain([pooling("weightedmean"), dense(32, 20, f"{ACTIVATION}LeakyReLU"), scores(20)]),
    "last token": Chain([pooling("lasttoken"), ("Dropout", {"dropout": 0.1}), scores(32)]),
    "joined, three labels": Chain(
        [
            pooling(["cls", "max", "mean"]),
            norm(96),
            dense(96, 24, f"{ACTIVATION}ReLU"),
            scores(24, labels=3),
        ],
        labels=["no", "maybe", "yes"],
    ),
    "normalised": Chain([pooling("mean"), ("Normalize", {}), dense(32, 32, f"{ACTIVATION}Sigmoid"), scores(32)]),
    "residuals": Chain(
        [
            pooling(["mean", "max"]),
            dense(64, 64, GELU, use_residual=True),
            norm(64),
            dense(64, 16, f"{ACTIVATION}Tanh", use_residual=True),
            scores(16),
        ]
    ),
    "dense over tokens": Chain(
        [
            dense(32, 24, GELU, module_input_name="token_embeddings", module_output_name="token_embeddings"),
            pooling("mean", 24),
            dense(24, 24, GELU, module_output_name="hidden"),
            dense(24, 1, module_input_name="hidden", module_output_name="scores"),
        ]
    ),
    "older spelling": Chain([("Pooling", OLDER_POOLING), dense(64, 8, GELU), scores(8)], types=OLDER_TYPES),
}


def write_modular(folder: Path, chain: Chain, dtype: Any = np.float32, shards: int = 1) -> Path:
    """Write the checkpoint of a chain to ``folder``, with its weights in ``dtype`` and the encoder's in ``shards``."""
    source = checkpoint("tiny")
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    config = json.loads((source / "config.json").read_text()) | {"architectures": ["ModernBertModel"]}
    if chain.labels:
        config["id2label"] = dict(enumerate(chain.labels))
    write_json(folder / "config.json", config)
    tensors = load_file(source / "model.safetensors")
    encoder = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    _write_encoder(folder, {name: value.astype(dtype) for name, value in encoder.items()}, shards)
    entries = [{"idx": 0, "name": "0", "path": "", "type": chain.types["Transformer"]}]
    for i, (kind, settings) in enumerate(chain.modules, start=1):
        path = f"{i}_{kind}"
        entries.append({"idx": i, "name": str(i), "path": path, "type": chain.types[kind]})
        (folder / path).mkdir()
        write_json(folder / path / "config.json", settings)
        weights = {name: value.astype(dtype) for name, value in _weights(kind, settings, seed=i).items()}
        if weights:
            save_file(weights, folder / path / "model.safetensors", {"format": "pt"})
    write_json(folder / "modules.json", entries)
    settings = {"__version__": {}, "model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None}
    write_json(folder / "config_sentence_transformers.json", {**settings, "activation_fn": chain.activation})
    write_json(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    return folder


def write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1))


def edit_json(file: Path, **changes: Any) -> None:
    """Change fields of the object in a file; a value of ... removes one."""
    content = {**json.loads(file.read_text()), **changes}
    write_json(file, {name: value for name, value in content.items() if value is not ...})


def golden_of(chain: str) -> np.ndarray[Any, Any]:
    """What sentence-transformers gives, before the activation, for the pairs of ``tiny``: ``[pairs, labels]``."""
    return np.array(json.loads(GOLDEN.read_text())[chain], np.float32)


def _write_encoder(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        names = sorted(tensors)[i::shards]
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _weights(kind: str, config: Config, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)

    def linear(name: str, bias: bool) -> dict[str, np.ndarray[Any, Any]]:
        inputs, outputs = config["in_features"], config["out_features"]
        weight = {f"{name}.weight": rng.normal(0, 1.5 * inputs**-0.5, (outputs, inputs))}
        return weight | ({f"{name}.bias": rng.normal(0, 0.2, outputs)} if bias else {})

    if kind == "LayerNorm":
        width = config["dimension"]
        return {"norm.weight": rng.normal(1, 0.2, width), "norm.bias": rng.normal(0, 0.2, width)}
    if kind != "Dense":
        return {}
    has_projection = config.get("use_residual") and config["in_features"] != config["out_features"]
    return linear("linear", config["bias"]) | (linear("residual", bias=False) if has_projection else {})


HALF_TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

"""Changes to a copy of an artifact: its manifest's fields, and damage to its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .checkpoints import checkpoint

MANIFEST, GRAPH, DATA, TOKENIZER = "manifest.json", "model.fp32.onnx", "model.fp32.onnx.data", "tokenizer.json"


def edit_manifest(artifact: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Pass the JSON of the manifest to ``edit``, which changes it in place; returns the artifact."""
    path = artifact / MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    return artifact


def flip_a_bit(file: Path) -> None:
    """Change one bit in the middle of a file; its size stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def checkpoint_with_bias(folder: Path, raised_by: float) -> Path:
    """A copy of the ``tiny`` checkpoint in ``folder``, all of whose logits are higher by ``raised_by``."""
    shutil.copytree(checkpoint("tiny"), folder)
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = (weights["classifier.bias"] + raised_by).astype(np.float32)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder

"""Checkpoints from a hub: what is downloaded, and what is not. The hub is one on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkpoints import checkpoint
from support.hub import REVISION, Hub, serving_hub
from support.modular import CHAINS, write_modular

MODEL = "someone/reranker"


def run(hub: Hub, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """modernrank in a process of its own: the hub library reads its environment when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "modernrank", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def modular(tmp_path: Path) -> Path:
    folder = write_modular(tmp_path / "checkpoint", CHAINS["ettin"])
    for name in ("pytorch_model.bin", "onnx/model.onnx", "5_Other/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("large")
    return folder


def test_a_modular_reranker_is_downloaded_with_its_modules_and_nothing_else(modular: Path, tmp_path: Path) -> None:
    with serving_hub(modular, MODEL) as hub:
        done = run(hub, tmp_path / "cache", "export", MODEL, "--out", str(tmp_path / "artifact"))
        assert done.returncode == 0, done.stderr
    needed = {"config.json", "modules.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"}
    assert needed | {"2_Dense/config.json", "2_Dense/model.safetensors"} <= set(hub.downloaded)
    assert not {"pytorch_model.bin", "onnx/model.onnx", "5_Other/model.safetensors"} & set(hub.downloaded)
    source = json.loads((tmp_path / "artifact" / "manifest.json").read_text())["source"]
    assert (source["model_id"], source["revision"]) == (MODEL, REVISION)


def test_info_downloads_no_weights(modular: Path, tmp_path: Path) -> None:
    with serving_hub(modular, MODEL) as hub:
        done = run(hub, tmp_path / "cache", "info", MODEL, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["can_be_exported"]
    assert (found["model_id"], found["revision"]) == (MODEL, REVISION)
    assert "not downloaded" in found["weights"]
    assert "2_Dense/config.json" in hub.downloaded
    assert not [name for name in hub.downloaded if name.endswith(".safetensors")]


def test_a_sequence_classifier_is_downloaded(tmp_path: Path) -> None:
    with serving_hub(checkpoint("tiny"), MODEL) as hub:
        done = run(hub, tmp_path / "cache", "export", MODEL, "--out", str(tmp_path / "artifact"))
    assert done.returncode == 0, done.stderr
    assert "golden.json" not in hub.downloaded


def test_a_revision_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with serving_hub(checkpoint("tiny"), MODEL) as hub:
        done = run(hub, tmp_path / "cache", "info", "someone/else")
    assert done.returncode == 1
    assert "someone/else" in done.stderr
    assert len(done.stderr.splitlines()) == 1

"""Checkpoints: every storage form gives the same scores, and every damage is refused by name."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from modernrank import ArtifactError, Reranker
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.hub import DEFAULT_MODEL, DEFAULT_REVISION, license_of, locate
from support.checkpoints import checkpoint

PAIR = ("the terms", "of the license " * 20)
Tensors = dict[str, np.ndarray]


def score(folder: Path, out: Path) -> float:
    export_checkpoint(folder, out)
    with Reranker.load(out) as reranker:
        return float(reranker.score([PAIR])[0])


def rewrite(folder: Path, change: Callable[[Tensors], Tensors | None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors) or tensors, folder / "model.safetensors")


def test_a_sharded_checkpoint_scores_the_same(broken_checkpoint: Path, tmp_path: Path, reranker: Reranker) -> None:
    tensors = load_file(broken_checkpoint / "model.safetensors")
    (broken_checkpoint / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, broken_checkpoint / file)
    index = {"weight_map": {name: file for file, members in shards.items() for name in members}}
    (broken_checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert score(broken_checkpoint, tmp_path / "out") == pytest.approx(float(reranker.score([PAIR])[0]), abs=1e-6)
    (broken_checkpoint / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "again")
    assert refused.value.details["path"].name == "model-00002-of-00002.safetensors"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_weights_are_widened(broken_checkpoint: Path, tmp_path: Path, dtype: type) -> None:
    half = broken_checkpoint
    rewrite(half, lambda tensors: {name: t.astype(dtype) for name, t in tensors.items()})
    from_half = score(half, tmp_path / "half")
    rewrite(half, lambda tensors: {name: t.astype(np.float32) for name, t in tensors.items()})
    assert from_half == pytest.approx(score(half, tmp_path / "rounded"), abs=1e-6)


def poison(value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors["model.layers.3.mlp.Wo.weight"][1, 2] = value

    return change


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


EMBEDDINGS = "model.embeddings.tok_embeddings.weight"
FFN = "model.layers.3.mlp.Wo.weight"
MISSING_LAYER = [f"model.layers.5.{name}.weight" for name in ("attn.Wo", "attn.Wqkv", "attn_norm", "mlp.Wi", "mlp.Wo")]

# For each damage: what makes it, and the facts that the error must hold.
DAMAGES: dict[str, tuple[Callable[[Tensors], Tensors | None], dict[str, Any]]] = {
    "missing": (
        lambda t: {k: v for k, v in t.items() if k != "head.norm.weight"},
        {"missing": ["head.norm.weight"], "extra": []},
    ),
    "many missing": (
        lambda t: {k: v for k, v in t.items() if "layers.5" not in k},
        {"missing": [*MISSING_LAYER, "model.layers.5.mlp_norm.weight"], "extra": []},
    ),
    "extra": (
        lambda t: {**t, "decoder.bias": np.zeros(3, np.float32)},
        {"missing": [], "extra": ["decoder.bias"]},
    ),
    "shape": (
        lambda t: {**t, "head.norm.weight": np.ones(31, np.float32)},
        {"tensor": "head.norm.weight", "shape": (31,), "expected": (32,)},
    ),
    "padded embeddings": (
        lambda t: {**t, EMBEDDINGS: np.concatenate([t[EMBEDDINGS], np.zeros((64, 32), np.float32)])},
        {"tensor": EMBEDDINGS, "shape": (576, 32), "expected": (512, 32)},
    ),
    "type": (
        lambda t: {**t, "head.norm.weight": np.ones(32, np.int32)},
        {"tensor": "head.norm.weight", "type": "I32"},
    ),
    "nan": (poison(np.nan), {"tensor": FFN}),
    "infinite": (poison(np.inf), {"tensor": FFN}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tensors_are_named_and_nothing_is_left(broken_checkpoint: Path, tmp_path: Path, damage: str) -> None:
    change, facts = DAMAGES[damage]
    rewrite(broken_checkpoint, change)
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert {name: refused.value.details[name] for name in facts} == facts
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


CAUSES = {
    "extra": "save_pretrained",
    "padded embeddings": "vocab_size to 576",
    "missing": "another model",
}


@pytest.mark.parametrize("damage", CAUSES)
def test_the_cause_is_named_and_not_another_one(broken_checkpoint: Path, tmp_path: Path, damage: str) -> None:
    rewrite(broken_checkpoint, DAMAGES[damage][0])
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert {name for name, fact in CAUSES.items() if fact in str(refused.value)} == {damage}


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_the_error_names_the_wrapper_of_a_checkpoint(broken_checkpoint: Path, tmp_path: Path, prefix: str) -> None:
    rewrite(broken_checkpoint, prefixed(prefix))
    with pytest.raises(ArtifactError, match=f"model.{prefix}save_pretrained"):
        export_checkpoint(broken_checkpoint, tmp_path / "out")


def test_padded_embeddings_score_the_same_once_the_config_counts_them(
    broken_checkpoint: Path, tmp_path: Path, reranker: Reranker
) -> None:
    """The remedy that the error names."""
    rewrite(broken_checkpoint, DAMAGES["padded embeddings"][0])
    config = json.loads((broken_checkpoint / "config.json").read_text())
    (broken_checkpoint / "config.json").write_text(json.dumps({**config, "vocab_size": 576}))
    assert score(broken_checkpoint, tmp_path / "out") == float(reranker.score([PAIR])[0])


def test_a_truncated_file_is_refused(broken_checkpoint: Path, tmp_path: Path) -> None:
    weights = broken_checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert refused.value.details["path"] == weights


def test_pickles_are_refused(broken_checkpoint: Path, tmp_path: Path) -> None:
    (broken_checkpoint / "model.safetensors").rename(broken_checkpoint / "pytorch_model.bin")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert refused.value.details["file"] == "pytorch_model.bin"
    (broken_checkpoint / "pytorch_model.bin").unlink()
    with pytest.raises(ArtifactError, match="model.safetensors"):
        export_checkpoint(broken_checkpoint, tmp_path / "out")


def test_a_tokenizer_beyond_the_embedding_is_refused(broken_checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((broken_checkpoint / "config.json").read_text())
    (broken_checkpoint / "config.json").write_text(json.dumps({**config, "vocab_size": 500, "pad_token_id": 1}))
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert refused.value.details["largest"] == 511
    assert refused.value.details["rows"] == 500


def test_a_missing_tokenizer_is_refused(broken_checkpoint: Path, tmp_path: Path) -> None:
    (broken_checkpoint / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="tokenizer.json"):
        export_checkpoint(broken_checkpoint, tmp_path / "out")


def test_what_is_neither_folder_nor_hub_id_is_refused() -> None:
    with pytest.raises(ArtifactError) as refused:
        locate("/no/such/folder")
    assert refused.value.details["checkpoint"] == "/no/such/folder"


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ("{", {}),
        ("[]", {}),
        ('{"model_max_length": "512"}', {"field": "model_max_length", "value": "512"}),
        ('{"model_max_length": 2}', {"argument": "max_length", "value": 2}),
        ('{"truncation_side": "Right"}', {"argument": "truncation_side", "value": "Right"}),
        ('{"truncation_side": null}', {"argument": "truncation_side", "value": None}),
    ],
)
def test_tokenizer_settings_that_cannot_be_used_are_refused(
    broken_checkpoint: Path, tmp_path: Path, settings: str, facts: dict[str, Any]
) -> None:
    (broken_checkpoint / "tokenizer_config.json").write_text(settings)
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert refused.value.details["path"].name == "tokenizer_config.json"
    assert {name: refused.value.details[name] for name in facts} == facts


def test_the_truncation_side_reaches_the_score(broken_checkpoint: Path, tmp_path: Path) -> None:
    (broken_checkpoint / "tokenizer_config.json").write_text('{"truncation_side": "left", "model_max_length": 1e30}')
    export_checkpoint(broken_checkpoint, tmp_path / "out")
    end = "and so the long story ends"
    texts = ["x " * 30 + end, "y " * 30 + end, "x " * 30 + "another end"]
    with Reranker.load(tmp_path / "out", max_length=10, truncation="document") as cut_left:
        assert cut_left.max_length == 10
        first, second, third = cut_left.score([("q", text) for text in texts], on_truncate=lambda cut: None)
    assert first == second
    assert second != third


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {"x": 3}}', '{"weight_map": {"x": "../other"}}'])
def test_a_weights_index_that_cannot_be_used_is_refused(broken_checkpoint: Path, tmp_path: Path, index: str) -> None:
    (broken_checkpoint / "model.safetensors").unlink()
    (broken_checkpoint / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ArtifactError, match="model.safetensors.index.json"):
        export_checkpoint(broken_checkpoint, tmp_path / "out")


def test_a_tensor_in_two_shards_is_refused(broken_checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(broken_checkpoint / "model.safetensors")
    (broken_checkpoint / "model.safetensors").unlink()
    save_file(tensors, broken_checkpoint / "model-1.safetensors")
    save_file({"head.norm.weight": tensors["head.norm.weight"]}, broken_checkpoint / "model-2.safetensors")
    weight_map = {"head.norm.weight": "model-2.safetensors", "classifier.bias": "model-1.safetensors"}
    (broken_checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert refused.value.details["tensor"] == "head.norm.weight"


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint("tiny"), tmp_path / "out", revision="v1")
    assert refused.value.details["revision"] == "v1"


def test_the_license_comes_from_the_model_card(tmp_path: Path) -> None:
    assert license_of(tmp_path) == "unknown"
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\nlicense: other\n")
    assert license_of(tmp_path) == "apache-2.0"


def export_offline(cache: Path, out: Path, model: str = DEFAULT_MODEL) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub library reads its environment when it is imported."""
    command = [sys.executable, "-m", "modernrank", "export", model, "--out", str(out)]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_hub_cache_is_used_offline_at_the_pinned_revision(tmp_path: Path) -> None:
    """A cache laid out as the hub library lays it, with the tiny model under the default model's name."""
    snapshots = tmp_path / "cache" / f"models--{DEFAULT_MODEL.replace('/', '--')}" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / DEFAULT_REVISION).symlink_to(checkpoint("tiny"))
    done = export_offline(tmp_path / "cache", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    source = json.loads((tmp_path / "out" / "manifest.json").read_text())["source"]
    assert (source["model_id"], source["revision"]) == (DEFAULT_MODEL, DEFAULT_REVISION)


def test_a_model_that_is_not_cached_is_refused_offline(tmp_path: Path) -> None:
    done = export_offline(tmp_path / "cache", tmp_path / "out", "someone/some-model")
    assert done.returncode == 1
    assert "someone/some-model at revision main" in done.stderr
    assert len(done.stderr.splitlines()) == 1

"""Which activation a checkpoint's files ask for, and that the manifest records it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError
from modernrank.artifact.manifest import Manifest
from modernrank.export import export_checkpoint
from modernrank.export.checkpoint.activation import read_activation
from support.checkpoints import checkpoint

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
SOFTMAX = "torch.nn.modules.activation.Softmax"
CONFIG, OWN = "config.json", "config_sentence_transformers.json"
NEW = "sentence_transformers"
OLD = "sbert_ce_default_activation_function"


def activation(folder: Path, labels: int = 1, own: Any = None, **config: Any) -> str:
    """What is read from a config.json with these fields and, if ``own`` is given, the other file."""
    (folder / CONFIG).write_text(json.dumps(config))
    if own is not None:
        (folder / OWN).write_text(json.dumps(own))
    return read_activation(folder, labels)


@pytest.mark.parametrize(("labels", "expected"), [(1, "sigmoid"), (2, "logit"), (3, "logit")])
def test_the_default_follows_the_number_of_labels(tmp_path: Path, labels: int, expected: str) -> None:
    assert activation(tmp_path, labels) == expected
    assert activation(tmp_path, labels, **{NEW: {"version": "5.0"}, OLD: None}) == expected
    assert activation(tmp_path, labels, own={"activation_fn": None}, **{NEW: None}) == expected


@pytest.mark.parametrize(("name", "expected"), [(IDENTITY, "logit"), (SIGMOID, "sigmoid"), (SOFTMAX, "softmax")])
def test_every_source_is_read(tmp_path: Path, name: str, expected: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert activation(tmp_path, 3, **{NEW: {"activation_fn": name}}) == expected
        assert activation(tmp_path, 1, **{OLD: name}) == expected
        assert activation(tmp_path, 1, own={"activation_fn": name}) == expected


def test_short_names_of_torch_are_known_too(tmp_path: Path) -> None:
    assert activation(tmp_path, own={"activation_fn": "torch.nn.Identity"}) == "logit"


def test_the_first_source_wins(tmp_path: Path) -> None:
    own = {"activation_fn": SIGMOID}
    assert activation(tmp_path, own=own, **{NEW: {"activation_fn": IDENTITY}, OLD: SOFTMAX}) == "logit"
    assert activation(tmp_path, own=own, **{OLD: SOFTMAX}) == "softmax"


def test_the_file_of_sentence_transformers_wins_where_it_saved_the_modules(tmp_path: Path) -> None:
    """As its ``_load_config_modules`` reads them."""
    (tmp_path / "modules.json").write_text("[]")
    assert activation(tmp_path, own={"activation_fn": SIGMOID}, **{NEW: {"activation_fn": IDENTITY}}) == "sigmoid"


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Tanh", "my.Sigmoid", "Sigmoid"])
def test_an_unknown_one_is_kept_by_name_with_a_warning(tmp_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match=name):
        assert activation(tmp_path, **{OLD: name}) == name


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({NEW: {"activation_fn": 3}}, "sentence_transformers.activation_fn"),
        ({NEW: "text"}, "sentence_transformers"),
        ({OLD: ["x"]}, OLD),
    ],
)
def test_what_is_no_name_is_refused(tmp_path: Path, config: dict[str, Any], field: str) -> None:
    with pytest.raises(ArtifactError) as refused:
        activation(tmp_path, **config)
    assert refused.value.details["field"] == field


def test_the_manifest_records_it(broken_checkpoint: Path, tmp_path: Path) -> None:
    (broken_checkpoint / OWN).write_text(json.dumps({"activation_fn": IDENTITY}))
    manifest = export_checkpoint(broken_checkpoint, tmp_path / "out")
    assert manifest.model.activation == "logit"
    assert Manifest.read(tmp_path / "out") == manifest
    assert OWN in manifest.source.files


def test_a_checkpoint_without_any_of_them_gets_the_default(artifacts: Path) -> None:
    assert Manifest.read(artifacts / "tiny").model.activation == "sigmoid"
    assert Manifest.read(artifacts / "tiny-cls").model.activation == "logit"
    assert OWN not in Manifest.read(artifacts / "tiny").source.files


def test_the_file_is_downloaded_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    from modernrank.export.checkpoint.hub import locate

    patterns: list[str] = []

    def snapshot_download(model_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        patterns.extend(allow_patterns)
        return str(checkpoint("tiny"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert locate("someone/some-model").folder == checkpoint("tiny")
    assert OWN in patterns

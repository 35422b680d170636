"""The files beside a padded graph: as other runtimes expect them, and part of the artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import FILE_NAME, Manifest
from modernrank.export import export_checkpoint
from modernrank.export.companions import special_tokens_map
from support.checkpoints import DEMO

COMPANIONS = {"config.json", "tokenizer_config.json", "special_tokens_map.json"}


def settings(folder: Path, **fields: Any) -> Path:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(fields))
    return path


def exported(source: Path, out: Path) -> Path:
    export_checkpoint(source, out, graph="padded")
    return out


def test_they_are_copied_and_recorded(tmp_path: Path) -> None:
    out = exported(DEMO, tmp_path / "out")
    manifest = Manifest.read(out)
    files = {path.name for path in out.iterdir()}
    assert files == {*COMPANIONS, "tokenizer.json", "model.fp32.onnx", "model.fp32.onnx.data", FILE_NAME}
    assert set(manifest.files) == files - {FILE_NAME}
    Artifact(out, manifest).check_files(sorted(manifest.files))
    for name in ("config.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (DEMO / name).read_bytes()
    export_checkpoint(DEMO, out, graph="padded", force=True)  # they are the artifact's own, and may be replaced


def test_packed_graphs_have_none(artifacts: Path) -> None:
    assert not COMPANIONS & {path.name for path in (artifacts / "tiny").iterdir()}


def test_the_map_of_special_tokens_is_made_where_the_checkpoint_has_none(tmp_path: Path) -> None:
    out = exported(DEMO, tmp_path / "out")
    tokens = json.loads((out / "special_tokens_map.json").read_text())
    assert tokens == {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]"}


def test_the_checkpoints_own_map_is_kept(broken_checkpoint: Path, tmp_path: Path) -> None:
    own = '{"pad_token": "[UNK]"}'
    (broken_checkpoint / "special_tokens_map.json").write_text(own)
    assert (exported(broken_checkpoint, tmp_path / "out") / "special_tokens_map.json").read_text() == own


def test_a_checkpoint_without_settings_is_reported(broken_checkpoint: Path, tmp_path: Path) -> None:
    (broken_checkpoint / "tokenizer_config.json").unlink()
    lines: list[str] = []
    export_checkpoint(broken_checkpoint, tmp_path / "out", graph="padded", report=lines.append)
    assert any("tokenizer_config.json" in line for line in lines)
    assert not (tmp_path / "out" / "special_tokens_map.json").exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_max_length": 9, "pad_token": "[PAD]", "mask_token": None}, {"pad_token": "[PAD]"}),
        (
            {"mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": True, "special": True}},
            {"mask_token": {"content": "[MASK]", "lstrip": True}},
        ),
        ({"additional_special_tokens": ["<a>", "<b>"]}, {"additional_special_tokens": ["<a>", "<b>"]}),
        ({"extra_special_tokens": ["<a>"]}, {"additional_special_tokens": ["<a>"]}),
        ({"extra_special_tokens": {"image_token": "<i>"}}, {"image_token": "<i>"}),
        ({"extra_special_tokens": {}, "additional_special_tokens": []}, {}),
    ],
)
def test_special_tokens_of_every_version(tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert special_tokens_map(settings(tmp_path, **fields)) == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"pad_token": 3}, "pad_token"),
        ({"pad_token": {"text": "[PAD]"}}, "pad_token"),
        ({"additional_special_tokens": "<a>"}, "additional_special_tokens"),
        ({"extra_special_tokens": {"image_token": 7}}, "extra_special_tokens.image_token"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, fields: dict[str, Any], field: str) -> None:
    path = settings(tmp_path, **fields)
    with pytest.raises(ArtifactError, match=r"tokenizer_config\.json") as refused:
        special_tokens_map(path)
    assert refused.value.details["field"] == field
    assert refused.value.details["path"] == path

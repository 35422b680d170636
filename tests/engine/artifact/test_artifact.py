"""Artifacts: the manifest's round trip, and every damage refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, ModernRankError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.manifest import SCHEMA_VERSION, Manifest

GRAPH, DATA = "model.fp32.onnx", "model.fp32.onnx.data"


def change_manifest(artifact: Path, **changes: Any) -> None:
    path = artifact / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_manifest_survives_a_round_trip(artifact: Path) -> None:
    manifest = Manifest.read(artifact)
    (artifact / "manifest.json").write_text(manifest.to_json())
    assert Manifest.read(artifact) == manifest


def test_the_manifest_says_what_the_artifact_is(artifact: Path) -> None:
    manifest = Manifest.read(artifact)
    assert manifest.schema_version == SCHEMA_VERSION == 1
    assert (manifest.model.layers, manifest.model.pooling, manifest.model.max_length) == (6, "mean", 8192)
    assert manifest.source.model_id is None and "model.safetensors" in manifest.source.files
    assert (
        set(manifest.files)
        == {GRAPH, DATA, "tokenizer.json"}
        == {p.name for p in artifact.iterdir()} - {"manifest.json"}
    )
    assert all(record.sha256 == sha256_of(artifact / name) for name, record in manifest.files.items())
    assert {"modernrank", "onnx", "numpy"} <= set(manifest.tools)


def test_fields_of_a_later_minor_version_are_passed_over(artifact: Path) -> None:
    before = Manifest.read(artifact)
    change_manifest(artifact, remark="hello")
    assert Manifest.read(artifact) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema version 2, this modernrank reads up to 1: upgrade modernrank"),
        ({"schema_version": None}, "has no schema_version 1"),
        ({"model": {}}, "is incomplete"),
        ({"graphs": 3}, "is incomplete"),
        ({"files": {}}, "records no hash of it"),
        ({"name": 3}, "wrong type .*Manifest.name is 3"),
        ({"license": None}, "Manifest.license is None"),
        ({"parity": []}, r"Manifest.parity is \[\]"),
        ({"files": {"../secret": {"size": 1, "sha256": ""}}}, "names a file outside its folder: '../secret'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(artifact: Path, changes: dict[str, Any], message: str) -> None:
    change_manifest(artifact, **changes)
    with pytest.raises(ArtifactError, match=message):
        Reranker.load(artifact)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("tokenizer", {"max_length": "8192"}, "Tokenizer.max_length is '8192'"),
        ("tokenizer", {"file": 3}, "Tokenizer.file is 3"),
        ("tokenizer", {"truncation_side": "up"}, "truncation side 'up' is unknown"),
        ("model", {"labels": 3}, "Model.labels is 3"),
        ("model", {"labels": ["a", "b"]}, "gives 1 labels, the manifest names 2"),
        ("graphs", {"layout": "Packed"}, "layout 'Packed' is none of packed, padded"),
        ("graphs", {"data": "../weights"}, "names a file outside its folder: '../weights'"),
        ("graphs", {"providers": "cpu"}, "Graph.providers is 'cpu'"),
    ],
)
def test_fields_that_cannot_be_used_are_named(
    artifact: Path, section: str, changes: dict[str, Any], message: str
) -> None:
    data = json.loads((artifact / "manifest.json").read_text())
    part = data[section][0] if section == "graphs" else data[section]
    part.update(changes)
    (artifact / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ModernRankError, match=message):
        Reranker.load(artifact)


def test_a_manifest_that_is_no_json_is_refused(artifact: Path) -> None:
    (artifact / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="is not valid JSON"):
        Reranker.load(artifact)


@pytest.mark.parametrize("name", [GRAPH, DATA, "tokenizer.json"])
def test_damaged_files_are_named(artifact: Path, name: str) -> None:
    content = (artifact / name).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (artifact / name).write_bytes(flipped)
    with pytest.raises(ArtifactError, match=f"{name} does not match its SHA-256 hash in the manifest"):
        Reranker.load(artifact)
    (artifact / name).write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=f"{name} has {len(content) - 1} bytes, the manifest says {len(content)}"):
        Reranker.load(artifact)
    (artifact / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        Reranker.load(artifact)


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no artifact folder .*absent; make it with `modernrank export"):
        Reranker.load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="is not an artifact: it has no manifest.json"):
        Reranker.load(tmp_path)


def test_a_precision_that_is_not_there_is_refused(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="no graph in precision 'int8'; it has: fp32 for cpu; ask for one"):
        Reranker.load(artifact, precision="int8")


def test_a_graph_that_the_runtime_cannot_load_is_refused(artifact: Path) -> None:
    (artifact / GRAPH).write_bytes(b"not a graph")
    record = {"size": len(b"not a graph"), "sha256": sha256_of(artifact / GRAPH)}
    files = json.loads((artifact / "manifest.json").read_text())["files"]
    change_manifest(artifact, files={**files, GRAPH: record})
    with pytest.raises(ArtifactError, match=f"ONNX Runtime .* cannot load .*{GRAPH}"):
        Reranker.load(artifact)


def test_opening_reads_no_weights(artifact: Path) -> None:
    (artifact / DATA).unlink()
    assert Artifact.open(artifact).manifest.name == "tiny"

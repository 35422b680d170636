"""``manifest.json``: its round trip, what it says, and every field that cannot be used refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, Manifest, Reranker
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.manifest import SCHEMA_VERSION
from support.artifacts import DATA, GRAPH, MANIFEST, TOKENIZER, edit_manifest

Change = Callable[[dict[str, Any]], object]


def test_the_manifest_survives_a_round_trip(artifact: Path) -> None:
    manifest = Manifest.read(artifact)
    (artifact / MANIFEST).write_text(manifest.to_json())
    assert Manifest.read(artifact) == manifest


def test_the_manifest_describes_the_model(artifacts: Path) -> None:
    manifest = Manifest.read(artifacts / "tiny")
    assert manifest.schema_version == 1
    assert (manifest.model.layers, manifest.model.pooling, manifest.model.max_length) == (6, "mean", 8192)
    assert manifest.source.model_id is None
    assert "model.safetensors" in manifest.source.files
    assert {"modernrank", "onnx", "numpy"} <= manifest.tools.keys()


def test_the_manifest_records_every_file_and_its_hash(artifacts: Path) -> None:
    folder = artifacts / "tiny"
    manifest = Manifest.read(folder)
    assert manifest.files.keys() == {GRAPH, DATA, TOKENIZER}
    assert {path.name for path in folder.iterdir()} == {MANIFEST, *manifest.files}
    assert {name: record.sha256 for name, record in manifest.files.items()} == {
        name: sha256_of(folder / name) for name in manifest.files
    }


@pytest.mark.parametrize(("model", "tokenizer", "expected"), [(512, 8192, 512), (8192, 192, 192), (8192, 8192, 8192)])
def test_the_lower_limit_of_model_and_tokenizer_counts(
    artifacts: Path, model: int, tokenizer: int, expected: int
) -> None:
    manifest = Manifest.read(artifacts / "tiny")
    limited = replace(
        manifest,
        model=replace(manifest.model, max_length=model),
        tokenizer=replace(manifest.tokenizer, max_length=tokenizer),
    )
    assert limited.max_length == expected


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ({}, ["fp32"]),
        ({"int8": {"passed": True}}, ["int8", "fp32"]),
        ({"int8": {"passed": False}, "fp16": {"passed": True}}, ["fp16", "fp32"]),
        ({"fp16": {"passed": True}, "int8": {"passed": True}}, ["int8", "fp16", "fp32"]),
        ({"int8": {"passed": "yes"}}, ["fp32"]),
        ({"int8": {}}, ["fp32"]),
    ],
)
def test_auto_takes_precisions_that_passed_the_fastest_first(
    artifacts: Path, quality: dict[str, Any], expected: list[str]
) -> None:
    assert replace(Manifest.read(artifacts / "tiny"), quality=quality).auto_precisions() == expected


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_a_newer_schema_is_refused_with_its_version(artifact: Path, version: int) -> None:
    edit_manifest(artifact, lambda manifest: manifest.update(schema_version=version))
    with pytest.raises(ArtifactError, match="upgrade") as caught:
        Reranker.load(artifact)
    assert caught.value.details == {"path": artifact / MANIFEST, "schema_version": version}


@pytest.mark.parametrize(
    "tokenizer",
    [{"splits_special_tokens": True}, {"prompts": {"a": "b"}, "default_prompt": "a"}],
    ids=["split", "prompt"],
)
def test_what_older_versions_would_ignore_has_a_schema_that_they_refuse(artifact: Path, tokenizer: Any) -> None:
    manifest = Manifest.read(artifact)
    changed = replace(manifest, tokenizer=replace(manifest.tokenizer, **tokenizer))
    (artifact / MANIFEST).write_text(changed.to_json())
    assert json.loads((artifact / MANIFEST).read_text())["schema_version"] == 2
    assert Manifest.read(artifact) == changed


@pytest.mark.parametrize("version", [None, 0, "1"])
def test_a_schema_that_is_no_version_is_refused(artifact: Path, version: object) -> None:
    edit_manifest(artifact, lambda manifest: manifest.update(schema_version=version))
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact)
    assert caught.value.details["schema_version"] == version


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: m.update(model={}), "Model"),
        (lambda m: m.update(graphs=3), "TypeError"),
        (lambda m: m.pop("tokenizer"), "tokenizer"),
        (lambda m: m.update(name=3), "Manifest.name"),
        (lambda m: m.update(license=None), "Manifest.license"),
        (lambda m: m.update(parity=[]), "Manifest.parity"),
        (lambda m: m["tokenizer"].update(max_length="8192"), "Tokenizer.max_length"),
        (lambda m: m["tokenizer"].update(max_length=True), "Tokenizer.max_length"),
        (lambda m: m["tokenizer"].update(file=3), "Tokenizer.file"),
        (lambda m: m["model"].update(labels=3), "Model.labels"),
        (lambda m: m["model"].update(activation=None), "Model.activation"),
        (lambda m: m["graphs"][0].update(opset="23"), "OnnxGraph.opset"),
        (lambda m: m["graphs"][0].update(layout="Packed"), "'Packed'"),
        (lambda m: m["files"][GRAPH].update(size="1"), "FileRecord.size"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(artifact: Path, change: Change, name: str) -> None:
    edit_manifest(artifact, change)
    with pytest.raises(ArtifactError, match=name) as caught:
        Reranker.load(artifact)
    assert caught.value.details["path"] == artifact / MANIFEST


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (lambda m: m["files"].update({"../secret": {"size": 1, "sha256": ""}}), "../secret"),
        (lambda m: m["graphs"][0].update(data="../weights"), "../weights"),
        (lambda m: m["graphs"][0].update(file="/etc/passwd"), "/etc/passwd"),
        (lambda m: m["tokenizer"].update(file="sub/tokenizer.json"), "sub/tokenizer.json"),
        (lambda m: m["files"].clear(), TOKENIZER),
        (lambda m: m["files"].pop(DATA), DATA),
    ],
)
def test_a_file_outside_the_folder_or_without_a_hash_is_refused(artifact: Path, change: Change, file: str) -> None:
    edit_manifest(artifact, change)
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact)
    assert caught.value.details["file"] == file


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(artifact: Path, content: bytes) -> None:
    (artifact / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact)
    assert caught.value.details["path"] == artifact / MANIFEST


OPTIONAL = ("parity", "quantisation", "quality", "engines")


@pytest.mark.parametrize("name", [field.name for field in fields(Manifest)])
def test_only_what_verification_and_building_add_may_be_missing(artifact: Path, name: str) -> None:
    before = Manifest.read(artifact)
    edit_manifest(artifact, lambda manifest: manifest.pop(name))
    if name in OPTIONAL:
        assert Manifest.read(artifact) == before
        return
    with pytest.raises(ArtifactError, match=name):
        Manifest.read(artifact)


@pytest.mark.parametrize(
    ("room", "field", "value"),
    [
        ("tokenizer", "truncation_side", "middle"),
        ("tokenizer", "max_length", -5),
        ("tokenizer", "pad_token_id", 10**30),
        ("tokenizer", "pad_token_id", -1),
        ("model", "max_length", 0),
        ("model", "vocabulary", 0),
    ],
)
def test_values_that_no_export_writes_are_refused(artifact: Path, room: str, field: str, value: object) -> None:
    edit_manifest(artifact, lambda manifest: manifest[room].update({field: value}))
    with pytest.raises(ArtifactError) as caught:
        Manifest.read(artifact)
    assert caught.value.details["value"] == value

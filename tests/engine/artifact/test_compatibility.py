"""Artifacts of earlier versions score as they did; what a later version adds is ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, InputError, Manifest, ProviderError, Reranker
from support.artifacts import DATA, GRAPH, MANIFEST, TOKENIZER, edit_manifest
from support.checkpoints import DATA as TEST_DATA

OLD = TEST_DATA / "manifest-0.1.0.json"  # of the tiny checkpoint, as version 0.1.0 wrote it
PAIRS = [("the terms of the license", document) for document in ("a", "derivative works", "notice " * 40)]


@pytest.fixture
def old(artifact: Path) -> Path:
    """Today's files under the manifest of version 0.1.0."""
    files = json.loads((artifact / MANIFEST).read_text())["files"]
    (artifact / MANIFEST).write_bytes(OLD.read_bytes())
    return edit_manifest(artifact, lambda manifest: manifest.update(files=files))


def test_the_old_manifest_differs_from_todays() -> None:
    manifest = json.loads(OLD.read_text())
    assert manifest["graphs"][0]["providers"] == ["cpu"]
    assert "activation" not in manifest["model"]


def test_the_old_weights_and_tokenizer_are_todays(artifacts: Path) -> None:
    """Only so does the next test say that an old artifact scores the same."""
    files = json.loads(OLD.read_text())["files"]
    today = Manifest.read(artifacts / "tiny").files
    assert files.keys() == {GRAPH, DATA, TOKENIZER}
    for name in (DATA, TOKENIZER):
        assert files[name]["sha256"] == today[name].sha256


def test_an_artifact_of_version_0_1_0_scores_the_same(old: Path, reranker: Reranker) -> None:
    with Reranker.load(old, threads=1) as loaded:
        assert loaded.info.precision == "fp32"
        assert loaded.score(PAIRS).tolist() == reranker.score(PAIRS).tolist()


def test_an_artifact_of_version_0_1_0_records_no_activation(old: Path) -> None:
    with Reranker.load(old, threads=1) as loaded, pytest.raises(InputError) as caught:
        loaded.score(PAIRS, activation="model")
    assert caught.value.details["argument"] == "activation"


def test_fields_of_a_later_version_are_ignored(artifact: Path) -> None:
    before = Manifest.read(artifact)

    def add(manifest: dict[str, Any]) -> None:
        manifest["remark"] = "hello"
        for section in ("source", "model", "tokenizer"):
            manifest[section]["remark"] = [1, None]
        manifest["graphs"][0]["remark"] = {"a": 1}
        manifest["files"][GRAPH]["remark"] = 1.5

    assert Manifest.read(edit_manifest(artifact, add)) == before


def add_graphs_of_a_later_version(manifest: dict[str, Any]) -> None:
    """A precision, a dialect and an engine that this version does not know, beside the known graph."""
    known = manifest["graphs"][0]
    manifest["graphs"] = [{**known, "precision": "fp4"}, {**known, "dialect": "npu-graph"}, known]
    manifest["quality"] = {"fp4": {"passed": True, "summary": "fine"}}
    manifest["engines"] = [
        {
            "graph": GRAPH, "graph_sha256": "", "precision": "fp4", "file": GRAPH, "library": "npu-rt", "version": "1",
            "compute_capability": "any", "profiles": [], "slots": 32, "options": ["later"], "remark": 1,
        }
    ]  # fmt: skip


@pytest.mark.parametrize("provider", ["auto", "cpu"])
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_precisions_and_dialects_of_a_later_version_are_no_obstacle(
    artifact: Path, reranker: Reranker, provider: Any, precision: Any
) -> None:
    edit_manifest(artifact, add_graphs_of_a_later_version)
    with Reranker.load(artifact, provider=provider, precision=precision, threads=1) as loaded:
        assert loaded.info.precision == "fp32"
        assert loaded.score(PAIRS).tolist() == reranker.score(PAIRS).tolist()


def test_an_artifact_of_unknown_dialects_only_is_an_error(artifact: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest["graphs"][0].update(dialect="npu-graph"))
    with pytest.raises((ArtifactError, ProviderError)):
        Reranker.load(artifact)
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact, provider="cpu")
    assert caught.value.details["available"] == [("fp32", "npu-graph")]

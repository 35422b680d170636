"""The manifest changes in one step, and no change undoes another one."""

from __future__ import annotations

import errno
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError
from modernrank.artifact.manifest import Manifest, TensorRtEngineRecord
from modernrank.export import export_checkpoint
from modernrank.export.output_folder import update_manifest
from modernrank.export.verification.result import Parity, Row
from modernrank.export.verification.verify import record_parity
from support.artifacts import MANIFEST, edit_manifest
from support.checkpoints import checkpoint

PARITY = Parity("fp32", (Row(16, "alone", 1e-6, 1e-6),), 0.5, (), "transformers 5", "onnxruntime 1")


def engine_of(manifest: Manifest) -> TensorRtEngineRecord:
    """A record of an engine; its file stands for the engine."""
    file = manifest.tokenizer.file
    graph = manifest.graphs[0].file
    return TensorRtEngineRecord(graph, "0" * 64, "fp32", file, "tensorrt", "11.0", "9.0", [], 64, [])


def test_changes_at_the_same_time_are_all_kept(artifact: Path) -> None:
    def add(number: int) -> None:
        def change(manifest: Manifest) -> Manifest:
            tools = {**manifest.tools, f"tool {number}": "1.0"}
            time.sleep(0.01)  # the others read meanwhile, unless they wait
            return replace(manifest, tools=tools)

        update_manifest(artifact, change)

    before = Manifest.read(artifact).tools
    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(Manifest.read(artifact).tools) == {*before, *(f"tool {number}" for number in range(8))}


def test_a_change_leaves_no_other_file(artifact: Path) -> None:
    before = {path.name for path in artifact.iterdir()}
    changed = update_manifest(artifact, lambda manifest: replace(manifest, name="another"))
    assert changed.name == "another"
    assert Manifest.read(artifact) == changed
    assert {path.name for path in artifact.iterdir()} == before


def test_a_change_that_fails_writes_nothing(artifact: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()

    def change(manifest: Manifest) -> Manifest:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        update_manifest(artifact, change)
    assert (artifact / "manifest.json").read_bytes() == before


def test_an_engine_that_was_built_during_a_verification_is_kept(artifact: Path) -> None:
    update_manifest(artifact, lambda manifest: replace(manifest, engines=[engine_of(manifest)]))
    record_parity(artifact, PARITY)
    manifest = Manifest.read(artifact)
    assert manifest.parity["fp32"]["passed"] is True
    assert [engine.library for engine in manifest.engines] == ["tensorrt"]


def test_a_result_is_not_recorded_for_another_graph(artifact: Path) -> None:
    """As after `export --force` during the verification."""
    graph = Manifest.read(artifact).graphs[0]
    files = {name: record.sha256 for name, record in Manifest.read(artifact).files.items() if name in graph.files}
    record_parity(artifact, replace(PARITY, files=files))
    with pytest.raises(ArtifactError) as refused:
        record_parity(artifact, replace(PARITY, files={**files, graph.file: "0" * 64}))
    assert refused.value.details["files"] == [graph.file]


def test_a_read_only_folder_is_named_with_the_reason(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only mount, where deleting the partial file fails too."""

    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ArtifactError, match="Read-only file system") as refused:
        record_parity(artifact, PARITY)
    assert refused.value.details["path"] == artifact / "manifest.json"


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        record_parity(tmp_path, PARITY)
    with pytest.raises(ArtifactError):
        record_parity(tmp_path / "absent", PARITY)


def test_entries_of_a_later_version_survive_a_change(artifact: Path) -> None:
    def add(manifest: dict[str, Any]) -> None:
        manifest["future"] = 1
        manifest["model"]["hidden_act"] = "gelu"
        manifest["graphs"][0]["extra"] = [1, 2]

    edit_manifest(artifact, add)
    record_parity(artifact, PARITY)
    raw = json.loads((artifact / MANIFEST).read_text())
    assert (raw["future"], raw["model"]["hidden_act"], raw["graphs"][0]["extra"]) == (1, "gelu", [1, 2])
    assert set(raw["parity"]) == {"fp32"}


def test_what_a_killed_change_left_does_not_block_a_new_export(artifact: Path) -> None:
    (artifact / ".manifest.json.4711").write_text("{")
    export_checkpoint(checkpoint("tiny"), artifact, force=True)
    assert sorted(path.name for path in artifact.iterdir()) == [MANIFEST, *sorted(Manifest.read(artifact).files)]

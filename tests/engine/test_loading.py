"""``Reranker.load``: arguments, what it reports, which files it checks, and that it writes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import ArtifactError, InputError, Reranker, TextLimits
from support.artifacts import DATA, GRAPH, MANIFEST, TOKENIZER, edit_manifest, flip_a_bit

PAIRS = [("the terms of the license", "notice " * n) for n in (1, 2, 40)]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("max_length", 8193),
        ("max_length", 0),
        ("max_length", 2),
        ("max_length", True),
        ("threads", 0),
        ("threads", 1.5),
        ("workers", 0),
        ("truncation", "none"),
        ("provider", "gpu"),
        ("precision", "int4"),
    ],
)
def test_arguments_out_of_range_are_refused(artifacts: Path, argument: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.load(artifacts / "tiny", **{argument: value})
    assert caught.value.details["argument"] == argument
    assert caught.value.details["value"] == value


def test_the_refusal_of_a_length_names_the_limit_and_what_sets_it(artifacts: Path, artifact: Path) -> None:
    with pytest.raises(InputError, match="max_position_embeddings") as caught:
        Reranker.load(artifacts / "tiny", max_length=8193)
    assert caught.value.details["limit"] == 8192
    edit_manifest(artifact, lambda manifest: manifest["tokenizer"].update(max_length=512))
    with pytest.raises(InputError, match="model_max_length") as caught:
        Reranker.load(artifact, max_length=513)
    assert caught.value.details["limit"] == 512


@pytest.mark.parametrize(("loaded_with", "source"), [(64, "max_length of load"), (None, "max_position_embeddings")])
def test_a_call_cannot_raise_the_limit(artifacts: Path, loaded_with: int | None, source: str) -> None:
    with Reranker.load(artifacts / "tiny", max_length=loaded_with, threads=1) as reranker:
        for call in (
            lambda length: reranker.score(PAIRS, max_length=length),
            lambda length: reranker.score_iter(PAIRS, max_length=length),
            lambda length: reranker.rank("q", ["d"], max_length=length),
            lambda length: reranker.count_tokens(PAIRS, max_length=length),
            lambda length: reranker.score(PAIRS, limits=TextLimits(max_length=length)),
        ):
            with pytest.raises(InputError, match=source) as caught:
                call(reranker.max_length + 1)
            assert caught.value.details["limit"] == (loaded_with or 8192)


def test_more_workers_than_threads_are_refused(artifacts: Path) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.load(artifacts / "tiny", provider="cpu", threads=2, workers=3)
    assert caught.value.details == {"argument": "workers", "value": 3, "limit": 2}


def test_numpy_numbers_are_accepted(artifacts: Path) -> None:
    lengths: dict[str, Any] = {"max_length": np.int64(20), "threads": np.int64(2), "workers": np.uint8(1)}
    with Reranker.load(artifacts / "tiny", **lengths) as reranker:
        assert reranker.max_length == 20
        assert (reranker.info.threads, reranker.info.workers) == (2, 1)


def test_info_reports_what_runs(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", provider="cpu", threads=2) as reranker:
        info = reranker.info
    assert info.provider == "cpu"
    assert info.execution_provider == "CPUExecutionProvider"
    assert info.runtime.startswith("onnxruntime 1.")
    assert (info.precision, info.graph, info.kernel) == ("fp32", "ort-cpu", "")
    assert (info.threads, info.workers) == (2, 2)
    assert info.devices == ()


def test_int8_reports_its_kernel(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny-int8", precision="int8", threads=1) as reranker:
        assert reranker.info.kernel == "u8s8"


def test_a_hub_id_is_pointed_to_from_checkpoint() -> None:
    with pytest.raises(ArtifactError, match=r"from_checkpoint\('someone/some-reranker'\)"):
        Reranker.load("someone/some-reranker")


@pytest.mark.parametrize("path", ["nowhere", "./a/b", "/a/b", "a/b/c", "~/b"])
def test_what_is_no_hub_id_is_not(path: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(path)
    assert "from_checkpoint" not in str(caught.value)
    assert caught.value.details["path"] == Path(path)


@pytest.mark.parametrize("name", [GRAPH, DATA, TOKENIZER])
def test_a_file_with_another_bit_is_refused(artifact: Path, name: str) -> None:
    flip_a_bit(artifact / name)
    with pytest.raises(ArtifactError, match="SHA-256") as caught:
        Reranker.load(artifact)
    assert caught.value.details["path"] == artifact / name


def test_hashes_may_be_left_to_another_worker(artifact: Path) -> None:
    flip_a_bit(artifact / DATA)
    with Reranker.load(artifact, verify_files=False, threads=1) as reranker:
        assert reranker.score(PAIRS).shape == (3,)


@pytest.mark.parametrize("verify_files", [True, False])
@pytest.mark.parametrize("name", [GRAPH, DATA, TOKENIZER])
def test_a_file_of_another_size_is_refused_either_way(artifact: Path, name: str, verify_files: bool) -> None:
    content = (artifact / name).read_bytes()
    (artifact / name).write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=rf"{len(content) - 1} bytes.*{len(content)}") as caught:
        Reranker.load(artifact, verify_files=verify_files)
    assert caught.value.details["path"] == artifact / name


@pytest.mark.parametrize("verify_files", [True, False])
@pytest.mark.parametrize("name", [GRAPH, DATA, TOKENIZER])
def test_a_missing_file_is_named_either_way(artifact: Path, name: str, verify_files: bool) -> None:
    (artifact / name).unlink()
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact, verify_files=verify_files)
    assert caught.value.details["path"] == artifact / name


def test_files_of_other_graphs_are_not_needed(artifact: Path) -> None:
    """A precision may be left out of a copy, where the manifest still names it."""

    def add_int8(manifest: dict[str, Any]) -> None:
        manifest["graphs"].append({**manifest["graphs"][0], "precision": "int8", "file": "model.int8.onnx"})
        manifest["files"]["model.int8.onnx"] = {"size": 1, "sha256": "0" * 64}

    with Reranker.load(edit_manifest(artifact, add_int8), threads=1) as reranker:
        assert reranker.info.precision == "fp32"
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact, precision="int8")
    assert caught.value.details["path"] == artifact / "model.int8.onnx"


def test_a_read_only_artifact_loads_and_nothing_is_written_to_it(
    artifact: Path, reranker: Reranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERNRANK_CACHE", str(tmp_path / "cache"))
    before = {path.name: path.stat().st_mtime_ns for path in (artifact, *artifact.iterdir())}
    for path in (*artifact.iterdir(), artifact):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with Reranker.load(artifact) as loaded:
            assert loaded.score(PAIRS).tolist() == reranker.score(PAIRS).tolist()
    finally:
        artifact.chmod(0o755)
    assert {path.name: path.stat().st_mtime_ns for path in (artifact, *artifact.iterdir())} == before
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_moved_or_renamed_loads_under_its_recorded_name(artifact: Path) -> None:
    moved = artifact.rename(artifact.with_name("größe 北京"))
    with Reranker.load(moved, threads=1) as loaded:
        assert loaded.manifest.name == "tiny"


def test_the_model_is_closed_where_the_tokenizer_cannot_be_used(artifact: Path) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.load(artifact, max_length=2)
    assert caught.value.details["minimum"] == 3
    assert (artifact / MANIFEST).is_file()


def test_a_loaded_model_needs_its_folder_no_longer(artifacts: Path, tmp_path: Path) -> None:
    """Also for what it has not done yet: after an export into the same folder, its files are those of another model."""
    pairs = [("query", "document " * length) for length in range(1, 30)]
    shutil.copytree(artifacts / "tiny-int8", tmp_path / "live")
    with Reranker.load(tmp_path / "live", precision="int8", threads=2) as reranker:
        shutil.rmtree(tmp_path / "live")
        scores = reranker.score(pairs)
    with Reranker.load(artifacts / "tiny-int8", precision="int8", threads=2) as expected:
        assert (scores == expected.score(pairs)).all()

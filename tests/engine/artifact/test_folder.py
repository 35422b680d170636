"""``Artifact``: opening a folder, choosing a graph, checking files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modernrank import ArtifactError
from modernrank.artifact.folder import Artifact
from support.artifacts import DATA, GRAPH, TOKENIZER, flip_a_bit

CPU = ("ort-cpu", "standard")


@pytest.fixture
def several(artifacts: Path) -> Artifact:
    """An artifact with a graph in float32 and in int8, whose quality has not passed."""
    artifact = Artifact.open(artifacts / "tiny")
    (exact,) = artifact.manifest.graphs
    graphs = [exact, replace(exact, precision="int8"), replace(exact, dialect="ort-cuda")]
    quality = {"int8": {"passed": False, "summary": "it loses 9.5 %"}}
    return Artifact(artifact.folder, replace(artifact.manifest, graphs=graphs, quality=quality))


def test_opening_reads_no_other_file(artifact: Path) -> None:
    for name in (GRAPH, DATA, TOKENIZER):
        (artifact / name).unlink()
    assert Artifact.open(artifact).manifest.name == "tiny"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="modernrank export") as caught:
        Artifact.open(tmp_path / "absent")
    assert caught.value.details["path"] == tmp_path / "absent"


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json") as caught:
        Artifact.open(tmp_path)
    assert caught.value.details["path"] == tmp_path


def test_auto_runs_the_exact_graph_where_none_has_passed(several: Artifact) -> None:
    assert several.graph_to_run("auto", CPU).precision == "fp32"


def test_auto_runs_what_has_passed(several: Artifact) -> None:
    passed = Artifact(several.folder, replace(several.manifest, quality={"int8": {"passed": True}}))
    assert passed.graph_to_run("auto", CPU).precision == "int8"


def test_a_precision_is_run_where_it_is_asked_for(several: Artifact) -> None:
    assert several.graph_to_run("int8", CPU).precision == "int8"


def test_the_graph_is_of_a_dialect_that_the_provider_runs(several: Artifact) -> None:
    assert several.graph_to_run("auto", ("ort-cuda",)).dialect == "ort-cuda"


def test_engines_are_built_from_the_most_exact_graph(several: Artifact) -> None:
    passed = Artifact(several.folder, replace(several.manifest, quality={"int8": {"passed": True}}))
    assert passed.graph_to_build("auto", CPU).precision == "fp32"
    assert passed.graph_to_build("int8", CPU).precision == "int8"


@pytest.mark.parametrize("choose", [Artifact.graph_to_run, Artifact.graph_to_build])
def test_a_precision_that_the_artifact_lacks_is_refused_with_those_it_has(several: Artifact, choose: object) -> None:
    with pytest.raises(ArtifactError) as caught:
        choose(several, "fp16", CPU)  # type: ignore[operator]
    assert caught.value.details["precision"] == "fp16"
    assert caught.value.details["available"] == [("fp32", "ort-cpu"), ("int8", "ort-cpu"), ("fp32", "ort-cuda")]


def test_a_precision_that_has_not_passed_is_rejected_with_its_quality(several: Artifact) -> None:
    int8 = Artifact(several.folder, replace(several.manifest, graphs=[several.manifest.graphs[1]]))
    with pytest.raises(ArtifactError, match=r"9\.5 %.*precision='int8'"):
        int8.graph_to_run("auto", CPU)


def test_the_quality_of_a_precision_is_its_summary(several: Artifact) -> None:
    assert several.quality_of("int8") == "it loses 9.5 %"
    assert several.quality_of("fp32") == "exact"
    assert "auto" in several.quality_of("fp16")  # not measured


def test_files_are_checked_by_size_and_hash(artifact: Path) -> None:
    opened = Artifact.open(artifact)
    opened.check_files([GRAPH, DATA, TOKENIZER])
    flip_a_bit(artifact / DATA)
    opened.check_files([GRAPH, TOKENIZER])
    opened.check_files([DATA], hashes=False)
    with pytest.raises(ArtifactError) as caught:
        opened.check_files([GRAPH, DATA])
    assert caught.value.details["path"] == artifact / DATA


def test_a_damaged_file_is_named_with_both_hashes(artifact: Path) -> None:
    opened = Artifact.open(artifact)
    flip_a_bit(artifact / TOKENIZER)
    with pytest.raises(ArtifactError, match=opened.manifest.files[TOKENIZER].sha256[:12]):
        opened.check_files([TOKENIZER])


def test_a_pointer_of_git_lfs_is_another_size(artifact: Path) -> None:
    (artifact / DATA).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ArtifactError, match=str(Artifact.open(artifact).manifest.files[DATA].size)):
        Artifact.open(artifact).check_files([DATA], hashes=False)


def test_the_encoder_has_the_limits_of_the_tokenizer(artifacts: Path) -> None:
    artifact = Artifact.open(artifacts / "tiny")
    assert artifact.encoder().max_length == 8192
    assert artifact.encoder(30, "document").max_length == 30
    assert artifact.encoder(30, "document").truncation == "document"

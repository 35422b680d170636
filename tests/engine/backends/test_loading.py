"""What ONNX Runtime's sessions share: versions, graphs that cannot be loaded, links, labels, inputs of both layouts."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from modernrank import ArtifactError, ProviderError, Reranker, Scorer
from modernrank.artifact.hashing import sha256_of
from modernrank.backends.onnxruntime import loading
from modernrank.backends.onnxruntime.int8_kernel import EXACT_EVERYWHERE, FAST, int8_kernel
from modernrank.batching.batch import PlannedBatch, assemble
from support.artifacts import DATA, GRAPH, MANIFEST, TOKENIZER, edit_manifest, flip_a_bit

PAIRS = [("the terms of the license", document) for document in ("a", "derivative works", "notice " * 40)]


@pytest.mark.parametrize("version", ["1.23.2", "1.29.0", "0.5"])
def test_an_onnxruntime_that_gives_wrong_int8_scores_is_refused(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(ProviderError) as caught:
        Scorer.load(artifacts / "tiny")
    assert caught.value.details["installed"] == version
    assert caught.value.details["minimum"] == ".".join(map(str, loading.MINIMUM_VERSION))


@pytest.mark.parametrize("version", ["1.30.0", "1.100.1", "2.0.0rc1", "1.32.0.dev20260101"])
def test_newer_versions_of_onnxruntime_are_accepted(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with Scorer.load(artifacts / "tiny") as scorer:
        assert scorer.info.runtime == f"onnxruntime {version}"


def test_a_graph_that_onnx_runtime_cannot_load_is_named(artifact: Path) -> None:
    content = b"not a graph"
    (artifact / GRAPH).write_bytes(content)
    record = {"size": len(content), "sha256": sha256_of(artifact / GRAPH)}
    edit_manifest(artifact, lambda manifest: manifest["files"].update({GRAPH: record}))
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact)
    assert caught.value.details["path"] == artifact / GRAPH


def test_a_graph_of_another_number_of_labels_is_refused(artifact: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest["model"].update(labels=["a", "b"]))
    with pytest.raises(ArtifactError, match="1 labels.* 2") as caught:
        Reranker.load(artifact)
    assert caught.value.details["path"] == artifact / GRAPH


def links_to(target: Path, folder: Path, names: list[str]) -> None:
    """Move the named files of an artifact to ``folder``, and leave links."""
    folder.mkdir(parents=True)
    for name in names:
        (target / name).rename(folder / name)
        (target / name).symlink_to(folder / name)


def test_a_folder_of_links_into_one_folder_loads(artifact: Path, tmp_path: Path, reranker: Reranker) -> None:
    """As in the hub's cache and Kubernetes' volumes."""
    names = [path.name for path in artifact.iterdir()]
    links_to(artifact, tmp_path / "store", names)
    with Reranker.load(artifact, threads=1) as loaded:
        assert loaded.score(PAIRS).tolist() == reranker.score(PAIRS).tolist()


@pytest.mark.parametrize("scattered", [[DATA], [GRAPH], [GRAPH, DATA], [GRAPH, DATA, TOKENIZER, MANIFEST]])
def test_a_folder_of_links_into_different_folders_loads(
    artifact: Path, tmp_path: Path, reranker: Reranker, scattered: list[str]
) -> None:
    """As DVC, git-annex, Nix and Bazel make them; ONNX Runtime itself takes no weights from another folder."""
    for name in scattered:
        links_to(artifact, tmp_path / f"store of {name}", [name])
    with Reranker.load(artifact, threads=2) as loaded:  # two sessions share what was read
        gc.collect()
        assert loaded.score(PAIRS).tolist() == reranker.score(PAIRS).tolist()


def test_damage_behind_a_link_is_found(artifact: Path, tmp_path: Path) -> None:
    links_to(artifact, tmp_path / "store", [DATA])
    flip_a_bit(tmp_path / "store" / DATA)
    with pytest.raises(ArtifactError) as caught:
        Reranker.load(artifact)
    assert caught.value.details["path"] == artifact / DATA


def test_a_packed_graph_gets_positions_segments_and_slots() -> None:
    ids = [np.array([7, 8, 9]), np.array([5])]
    inputs = loading.packed_inputs(assemble(PlannedBatch(((0, 1),), 5), ids, pad_token_id=1))
    assert {name: array.tolist() for name, array in inputs.items()} == {
        "input_ids": [[7, 8, 9, 5, 1]],
        "position_ids": [[0, 1, 2, 0, 0]],
        "segment_ids": [[1, 1, 1, 2, 0]],
        "slots": [1, 2],
    }


def test_a_padded_graph_gets_a_mask() -> None:
    ids = [np.array([7, 8, 9]), np.array([5])]
    inputs = loading.padded_inputs(assemble(PlannedBatch(((0,), (1,)), 3), ids, pad_token_id=1))
    assert {name: array.tolist() for name, array in inputs.items()} == {
        "input_ids": [[7, 8, 9], [5, 1, 1]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
    }


@pytest.mark.parametrize(
    ("machine", "flags", "kernel"),
    [
        ("x86_64", "fpu avx2", EXACT_EVERYWHERE),
        ("x86_64", "fpu avx2 avx512f", EXACT_EVERYWHERE),
        ("x86_64", "fpu avx512_vnni", FAST),
        ("AMD64", "fpu avx_vnni", FAST),
        ("x86_64", "fpu amx_int8", FAST),
        ("aarch64", "", FAST),
    ],
)
def test_weights_that_can_saturate_run_a_kernel_that_is_exact_on_the_processor(
    tmp_path: Path, machine: str, flags: str, kernel: str
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert int8_kernel(True, tmp_path / "cpuinfo", machine) == kernel
    assert int8_kernel(False, tmp_path / "cpuinfo", machine) == FAST


def test_an_unknown_processor_gets_the_kernel_that_is_exact_everywhere(tmp_path: Path) -> None:
    assert int8_kernel(True, tmp_path / "absent", "x86_64") == EXACT_EVERYWHERE

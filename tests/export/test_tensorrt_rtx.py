"""Engines by TensorRT-RTX, whose parser and builder need no GPU: what is read, which profiles, what is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modernrank import ArtifactError, InputError, ProfileError, ProviderError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Manifest
from modernrank.backends.cuda.driver import find_driver
from modernrank.backends.profiles import SLOTS, parse_profile
from modernrank.cli import main
from modernrank.export import build_engine, export_checkpoint
from support.checkpoints import checkpoint
from support.full_size import write_full_size

pytestmark = pytest.mark.tensorrt

TINY = checkpoint("tiny")


def exported(folder: Path, graph: str) -> Path:
    export_checkpoint(TINY, folder, precision="fp16", graph=graph)
    return folder


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-decomposed"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = exported(tmp_path_factory.mktemp("engines") / request.param, request.param)
    profiles = [parse_profile("short=8x128"), parse_profile("long=1x192:2x512:2x512")]
    build_engine(folder, library="tensorrt-rtx", profiles=profiles)
    return folder


def test_the_manifest_names_the_engine_and_the_hash_of_its_graph(built: Path) -> None:
    artifact = Artifact.open(built)
    (engine,) = artifact.manifest.engines
    assert (engine.library, engine.compute_capability, engine.precision) == ("tensorrt-rtx", "any", "fp16")
    assert engine.graph_sha256 == artifact.manifest.files[engine.graph].sha256
    assert [str(p) for p in engine.profiles] == ["short=1x64:1x128:8x128", "long=1x192:2x512:2x512"]
    stem = engine.file.removesuffix("engine")
    artifact.check_files([engine.file, f"{stem}log", f"{stem}layers.json"])
    assert artifact.manifest.files[engine.file].size > 100_000


def test_inputs_outputs_and_profiles_are_those_of_the_contract(built: Path) -> None:
    report = json.loads(next(built.glob("*.layers.json")).read_text())
    ids = {"type": "INT32", "dims": [-1, -1]}
    assert report["inputs"] == {
        "input_ids": ids,
        "position_ids": ids,
        "segment_ids": ids,
        "slots": {"type": "INT32", "dims": [-1]},
    }
    assert report["outputs"] == {"logits": {"type": "FLOAT", "dims": [-1, -1, 1]}}
    short, long = report["profiles"]
    assert short["input_ids"] == [[1, 64], [1, 128], [8, 128]]
    assert long["segment_ids"] == [[1, 192], [2, 512], [2, 512]]
    assert short["slots"] == long["slots"] == [[SLOTS]] * 3
    kinds = {layer["kind"] for layer in report["layers"]}
    assert ("ATTENTION_INPUT" in kinds) == (built.name == "tensorrt")
    products = [layer for layer in report["layers"] if layer["kind"] == "MATRIX_MULTIPLY" and "mlp" in layer["name"]]
    assert products
    assert all(layer["outputs"][0]["type"] == "HALF" for layer in products)


def test_a_second_build_replaces_the_first(tmp_path: Path) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    for text in ("short=1x64", "short=2x64"):
        messages: list[str] = []
        build_engine(folder, library="tensorrt-rtx", profiles=[parse_profile(text)], report=messages.append)
        assert any(message.startswith("TensorRT: ") for message in messages)
    (engine,) = Manifest.read(folder).engines
    assert str(engine.profiles[0]) == "short=1x64:1x64:2x64"
    export_checkpoint(TINY, folder, precision="fp16", force=True)  # the engine is a part of the artifact
    assert not list(folder.glob("*.engine"))


@pytest.mark.skipif(find_driver() is not None, reason="there is a driver")
def test_without_a_driver_the_engine_is_not_loaded(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderError) as refused:
        Reranker.load(built, provider="tensorrt-rtx")
    assert refused.value.details["provider"] == "tensorrt-rtx"
    assert main(["info", str(built)]) == 0
    assert "tensorrt-rtx" in capsys.readouterr().out


def test_profiles_that_contradict_are_refused_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    assert main(["build-engine", str(folder), "--profile", "a=64x512", "--profile", "b=4x128"]) == 1
    assert "1x64" in capsys.readouterr().err


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    with pytest.raises(ProfileError):
        build_engine(folder, library="tensorrt-rtx", profiles=[parse_profile("a=1x9000")])
    with pytest.raises(InputError) as refused:
        build_engine(folder, library="tensorrt-rtx", hardware_compatible=True)
    assert refused.value.details["argument"] == "hardware_compatible"
    with pytest.raises(ProviderError):
        build_engine(folder, library="tensorrt")


def test_a_graph_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    graph = folder / "model.fp16.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(ArtifactError) as refused:
        build_engine(folder, library="tensorrt-rtx")
    assert refused.value.details["path"] == graph
    export_checkpoint(TINY, tmp_path / "cpu")
    with pytest.raises(ArtifactError) as refused:
        build_engine(tmp_path / "cpu", library="tensorrt-rtx")
    assert refused.value.details["available"] == [("fp32", "ort-cpu")]


def test_the_full_size_builds_for_short_and_long_contexts(tmp_path: Path) -> None:
    """ModernBERT-base with random weights, the profiles that are the default."""
    folder = tmp_path / "artifact"
    export_checkpoint(write_full_size(tmp_path / "base"), folder, precision="fp16")
    manifest = build_engine(folder, library="tensorrt-rtx")
    (engine,) = manifest.engines
    assert [str(p) for p in engine.profiles] == ["short=1x64:16x512:64x512", "long=1x576:2x2048:4x8192"]
    assert 250e6 < manifest.files[engine.file].size < 500e6

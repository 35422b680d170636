"""Which engine runs: only one of this library, version, GPU and graph, and the error says what each other one is."""

from dataclasses import replace
from pathlib import Path

import pytest

from modernrank import ArtifactError
from modernrank.artifact.manifest import FileRecord, Manifest, TensorRtEngineRecord
from modernrank.backends.profiles import default_profiles
from modernrank.backends.tensorrt.engine_choice import choose_engine

ENGINE = TensorRtEngineRecord(
    graph="model.fp32.onnx",
    graph_sha256="",
    precision="fp16",
    file="model.engine",
    library="tensorrt",
    version="11.0.2",
    compute_capability="9.0",
    profiles=default_profiles(8192),
    slots=32,
    options=[],
)


@pytest.fixture
def manifest(artifacts: Path) -> Manifest:
    found = Manifest.read(artifacts / "tiny")
    engine = replace(ENGINE, graph_sha256=found.files[ENGINE.graph].sha256)
    files = {**found.files, "model.engine": FileRecord(1, "0" * 64)}
    return replace(found, engines=[engine], files=files, quality={"fp16": {"passed": True}})


def with_options(manifest: Manifest, *options: str) -> Manifest:
    return replace(manifest, engines=[replace(manifest.engines[0], options=list(options))])


def test_the_engine_of_this_machine_is_chosen(manifest: Manifest) -> None:
    for precision in ("auto", "fp16"):
        assert choose_engine(manifest, "tensorrt", "11.0.2", "9.0", precision).file == "model.engine"


def test_auto_takes_no_engine_whose_precision_has_not_passed(manifest: Manifest) -> None:
    for quality in ({}, {"fp16": {"passed": False}}):
        unproven = replace(manifest, quality=quality)
        assert choose_engine(unproven, "tensorrt", "11.0.2", "9.0", "fp16").file == "model.engine"
        with pytest.raises(ArtifactError, match="has not passed the quality gate of precision 'auto' .ask for 'fp16'"):
            choose_engine(unproven, "tensorrt", "11.0.2", "9.0", "auto")
        exact = replace(manifest.engines[0], precision="fp32", file="exact.engine")
        both = replace(unproven, engines=[*manifest.engines, exact])
        assert choose_engine(both, "tensorrt", "11.0.2", "9.0", "auto").file == "exact.engine"


def test_the_manifest_keeps_engines(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    assert Manifest.read(tmp_path).engines == manifest.engines


@pytest.mark.parametrize(
    ("library", "version", "capability", "reason"),
    [
        ("tensorrt-rtx", "11.0.2", "9.0", "model.engine is of tensorrt"),
        ("tensorrt", "11.0.3", "9.0", "was built by version 11.0.2"),
        ("tensorrt", "11.0.2", "8.6", "was built for compute capability 9.0"),
    ],
)
def test_another_machine_is_told_why_and_how_to_build(
    manifest: Manifest, library: str, version: str, capability: str, reason: str
) -> None:
    with pytest.raises(
        ArtifactError, match=rf"no engine of {library} {version} for .*{capability}: .*{reason}"
    ) as told:
        choose_engine(manifest, library, version, capability, "auto")
    assert "modernrank tensorrt" in str(told.value)


def test_an_engine_of_another_graph_is_refused(manifest: Manifest) -> None:
    stale = replace(manifest, engines=[replace(manifest.engines[0], graph_sha256="1" * 64)])
    with pytest.raises(ArtifactError, match=r"was built from another model\.fp32\.onnx"):
        choose_engine(stale, "tensorrt", "11.0.2", "9.0", "auto")


def test_no_engine_at_all_says_so(manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="it has none in int8"):
        choose_engine(manifest, "tensorrt", "11.0.2", "9.0", "int8")


def test_compatible_engines_run_elsewhere(manifest: Manifest) -> None:
    later = with_options(manifest, "version_compatible")
    assert choose_engine(later, "tensorrt", "11.2.0", "9.0", "auto")
    for version in ("10.9.0", "11.0.1", "12.0.0"):
        with pytest.raises(ArtifactError):
            choose_engine(later, "tensorrt", version, "9.0", "auto")
    other = with_options(manifest, "hardware_compatible")
    assert choose_engine(other, "tensorrt", "11.0.2", "8.6", "auto")
    with pytest.raises(ArtifactError):
        choose_engine(other, "tensorrt", "11.0.2", "7.5", "auto")

"""Which engine runs: only one of this library, version, GPU and graph, and the error says what each other one is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError
from modernrank.artifact.manifest import FileRecord, Manifest, TensorRtEngineRecord
from modernrank.backends.profiles import default_profiles
from modernrank.backends.tensorrt.engine_choice import ANY, choose_engine, reasons_against

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
    read = Manifest.read(artifacts / "tiny")
    engine = replace(ENGINE, graph_sha256=read.files[ENGINE.graph].sha256)
    files = {**read.files, "model.engine": FileRecord(1, "0" * 64)}
    return replace(read, engines=[engine], files=files, quality={"fp16": {"passed": True}})


def with_options(manifest: Manifest, *options: str) -> Manifest:
    return replace(manifest, engines=[replace(manifest.engines[0], options=list(options))])


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_the_engine_of_this_machine_is_chosen(manifest: Manifest, precision: Any) -> None:
    assert choose_engine(manifest, "tensorrt", "11.0.2", "9.0", precision).file == "model.engine"


@pytest.mark.parametrize("quality", [{}, {"fp16": {"passed": False}}])
def test_auto_takes_no_engine_whose_precision_has_not_passed(manifest: Manifest, quality: dict[str, Any]) -> None:
    unproven = replace(manifest, quality=quality)
    assert choose_engine(unproven, "tensorrt", "11.0.2", "9.0", "fp16").file == "model.engine"
    with pytest.raises(ArtifactError, match="'fp16'") as caught:
        choose_engine(unproven, "tensorrt", "11.0.2", "9.0", "auto")
    assert len(caught.value.details["reasons"]["model.engine"]) == 1
    exact = replace(manifest.engines[0], precision="fp32", file="exact.engine")
    both = replace(unproven, engines=[*manifest.engines, exact])
    assert choose_engine(both, "tensorrt", "11.0.2", "9.0", "auto").file == "exact.engine"


def test_the_manifest_keeps_engines(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    assert Manifest.read(tmp_path).engines == manifest.engines


@pytest.mark.parametrize(
    ("library", "version", "capability", "reason"),
    [
        ("tensorrt-rtx", "11.0.2", "9.0", "tensorrt"),
        ("tensorrt", "11.0.3", "9.0", "11.0.2"),
        ("tensorrt", "11.0.2", "8.6", "9.0"),
    ],
)
def test_the_error_on_another_machine_says_why_and_how_to_build(
    manifest: Manifest, library: str, version: str, capability: str, reason: str
) -> None:
    with pytest.raises(ArtifactError, match=rf"{library} {version} .*{capability}.*modernrank build-engine") as caught:
        choose_engine(manifest, library, version, capability, "auto")
    ((file, reasons),) = caught.value.details["reasons"].items()
    assert file == "model.engine"
    assert len(reasons) == 1
    assert reason in reasons[0]


def test_an_engine_of_another_graph_is_refused(manifest: Manifest) -> None:
    stale = replace(manifest, engines=[replace(manifest.engines[0], graph_sha256="1" * 64)])
    with pytest.raises(ArtifactError) as caught:
        choose_engine(stale, "tensorrt", "11.0.2", "9.0", "auto")
    (reason,) = caught.value.details["reasons"]["model.engine"]
    assert "model.fp32.onnx" in reason


def test_every_reason_is_listed(manifest: Manifest) -> None:
    with pytest.raises(ArtifactError) as caught:
        choose_engine(replace(manifest, quality={}), "tensorrt-rtx", "1.2", "8.6", "auto")
    assert len(caught.value.details["reasons"]["model.engine"]) == 3


def test_no_engine_at_all_says_so(manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="int8") as caught:
        choose_engine(manifest, "tensorrt", "11.0.2", "9.0", "int8")
    assert caught.value.details["reasons"] == {}


@pytest.mark.parametrize(
    ("option", "version", "capability", "runs"),
    [
        ("version_compatible", "11.2.0", "9.0", True),
        ("version_compatible", "10.9.0", "9.0", False),
        ("version_compatible", "11.0.1", "9.0", False),
        ("version_compatible", "12.0.0", "9.0", False),
        ("hardware_compatible", "11.0.2", "8.6", True),
        ("hardware_compatible", "11.0.2", "12.0", True),
        ("hardware_compatible", "11.0.2", "7.5", False),
    ],
)
def test_compatible_engines_run_elsewhere(
    manifest: Manifest, option: str, version: str, capability: str, runs: bool
) -> None:
    compatible = with_options(manifest, option)
    reasons = reasons_against(compatible, compatible.engines[0], "tensorrt", version, capability)
    assert len(reasons) == (0 if runs else 1)


def test_an_engine_that_is_compiled_at_first_use_runs_on_every_gpu(manifest: Manifest) -> None:
    everywhere = replace(manifest, engines=[replace(manifest.engines[0], compute_capability=ANY)])
    assert choose_engine(everywhere, "tensorrt", "11.0.2", "7.5", "auto").file == "model.engine"

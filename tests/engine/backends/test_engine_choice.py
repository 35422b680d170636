"""Which engine runs: only one of this library, version, GPU and graph, and the error says what each other one is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, ProviderError
from modernrank.artifact.manifest import FileRecord, Manifest, TensorRtEngineRecord
from modernrank.backends.cuda.capability import why_unsupported
from modernrank.backends.profiles import default_profiles
from modernrank.backends.tensorrt.engine_choice import ANY, choose_engine, differs_from, reasons_against

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
        choose_engine(replace(manifest, quality={}), "tensorrt-rtx", "1.7", "8.6", "auto")
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


def test_an_engine_of_another_library_is_refused(manifest: Manifest) -> None:
    (reason,) = reasons_against(manifest, manifest.engines[0], "tensorrt-rtx", "1.7", "9.0")
    assert "tensorrt" in reason


def portable(manifest: Manifest) -> Manifest:
    """With an engine of TensorRT-RTX, which compiles it at first use."""
    return replace(
        manifest,
        engines=[replace(manifest.engines[0], library="tensorrt-rtx", version="1.7.1.116", compute_capability=ANY)],
    )


@pytest.mark.parametrize("capability", ["8.0", "8.6", "8.9", "12.0", "12.1"])
def test_an_engine_that_is_compiled_at_first_use_runs_on_every_gpu_of_its_library(
    manifest: Manifest, capability: str
) -> None:
    chosen = choose_engine(portable(manifest), "tensorrt-rtx", "1.7.1.116", capability, "auto")
    assert chosen.file == "model.engine"


@pytest.mark.parametrize("capability", ["7.0", "7.5", "8.7", "9.0", "10.0", "10.3", "11.0"])
def test_a_gpu_that_tensorrt_rtx_does_not_support_is_no_reason_to_build_again(
    manifest: Manifest, capability: str
) -> None:
    with pytest.raises(ProviderError, match=capability) as caught:
        choose_engine(portable(manifest), "tensorrt-rtx", "1.7.1.116", capability, "auto")
    assert caught.value.details == {"provider": "tensorrt-rtx", "compute_capability": capability}
    assert "build" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "capability", "version", "runs"),
    [
        ("tensorrt", "7.5", "11.5.0", True),
        ("tensorrt", "9.0", "11.5.0", True),
        ("tensorrt", "10.3", "11.5.0", True),
        ("tensorrt", "7.0", "10.5.0", False),
        ("tensorrt", "7.0", "10.4.0", True),
        ("tensorrt", "6.1", "10.4.0", False),
        ("tensorrt", "7.0", "", False),
        ("cuda", "7.5", "", True),
        ("cuda", "7.0", "", False),
        ("ort-tensorrt", "7.0", "", False),
        ("tensorrt-rtx", "7.5", "", False),
        ("tensorrt-rtx", "8.9", "", True),
        ("tensorrt-rtx", "", "", True),
    ],
)
def test_each_provider_supports_its_compute_capabilities(
    provider: str, capability: str, version: str, runs: bool
) -> None:
    reason = why_unsupported(provider, capability, version)
    assert bool(reason) != runs
    assert capability in reason or runs


def test_an_engine_of_another_gpu_of_the_same_capability_is_named(manifest: Manifest) -> None:
    engine = replace(manifest.engines[0], gpu="NVIDIA H100 80GB HBM3", multiprocessors=132)
    assert differs_from(engine, "NVIDIA H100 80GB HBM3", 132) == ""
    slice_of_it = differs_from(engine, "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 16)
    assert "132" in slice_of_it
    assert "16" in slice_of_it
    assert "H200" in differs_from(engine, "NVIDIA H200", 132)
    assert differs_from(manifest.engines[0], "NVIDIA H200", 132) == ""

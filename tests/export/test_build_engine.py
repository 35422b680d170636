"""Building an engine: which arguments are refused, without TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, InputError, ProviderError
from modernrank.backends.cuda import driver
from modernrank.export import build_engine, export_checkpoint
from support import fake_cuda_runtime, fake_tensorrt
from support.checkpoints import checkpoint
from support.fake_cuda_runtime import FakeRuntime
from support.fake_driver import FakeDriver
from support.fake_tensorrt import FakeTensorRt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("engines") / "artifact"
    export_checkpoint(checkpoint("tiny"), out, graph="tensorrt")
    return out


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [({"library": "trt"}, "library"), ({"precision": "int2"}, "precision"), ({"workspace": 0}, "workspace")],
)
def test_unknown_arguments_are_refused_by_name(artifacts: Path, arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(InputError) as refused:
        build_engine(artifacts / "tiny", **arguments)
    assert refused.value.details["argument"] == argument


def test_an_artifact_for_processors_has_no_graph_to_build_from(artifacts: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        build_engine(artifacts / "tiny", library="tensorrt")
    assert refused.value.details["available"] == [("fp32", "ort-cpu")]


@pytest.mark.parametrize("argument", ["hardware_compatible", "version_compatible"])
def test_engines_of_tensorrt_rtx_have_no_compatibility(folder: Path, argument: str) -> None:
    with pytest.raises(InputError) as refused:
        build_engine(folder, library="tensorrt-rtx", **{argument: True})  # type: ignore[arg-type]
    assert refused.value.details["argument"] == argument


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """TensorRT, TensorRT-RTX, and cuda-python with two GPUs."""
    fake_tensorrt.install(monkeypatch, FakeTensorRt())
    fake_tensorrt.install(monkeypatch, FakeTensorRt("tensorrt_rtx", "1.7.1.116"))
    monkeypatch.setattr(driver, "_load", lambda: FakeDriver([("GPU 0", "9.0"), ("GPU 1", "9.0")]))
    runtime = FakeRuntime(gpus=2)
    fake_cuda_runtime.install(monkeypatch, runtime)
    return runtime


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
def test_a_gpu_that_is_not_there_is_an_error(folder: Path, libraries: FakeRuntime, library: str) -> None:
    with pytest.raises(ProviderError) as refused:
        build_engine(folder, library=library, device=2)
    assert refused.value.details == {"device": 2, "count": 2}
    with pytest.raises(InputError) as negative:
        build_engine(folder, library=library, device=-1)
    assert negative.value.details["argument"] == "device"


def test_a_gpu_that_is_not_there_is_an_error_without_any(
    folder: Path, libraries: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_load", lambda: None)
    with pytest.raises(ProviderError) as refused:
        build_engine(folder, library="tensorrt-rtx", device=1)
    assert refused.value.details["count"] == 0


def test_a_builder_that_cannot_start_says_why(folder: Path, libraries: FakeRuntime) -> None:
    """The stand-in has no driver: its constructor raises TypeError, as the binding of a null pointer does."""
    with pytest.raises(ProviderError, match="CUDA initialization failure") as refused:
        build_engine(folder, library="tensorrt")
    assert refused.value.details["provider"] == "tensorrt"
    assert not libraries.contexts

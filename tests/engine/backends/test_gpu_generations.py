"""Which provider runs on which GPU: what auto takes, what a request by name says, and what ``info`` shows."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from modernrank import GpuOptions, LoadOptions, ProviderError
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import FileRecord, TensorRtEngineRecord
from modernrank.backends.base import Backend
from modernrank.backends.cuda import driver
from modernrank.backends.open import open_backend
from modernrank.backends.profiles import default_profiles
from modernrank.backends.registry import PROVIDERS
from modernrank.cli.info import _machine
from support.fake_driver import FakeDriver
from support.fake_packages import install

RTX, TENSORRT = "1.7.1.116", "11.1.0.106"
H100, L4, B200, T4 = ("NVIDIA H100", "9.0"), ("NVIDIA L4", "8.9"), ("NVIDIA B200", "10.0"), ("Tesla T4", "7.5")
GEFORCE = ("NVIDIA GeForce RTX 5090", "12.0")


class OpenedError(Exception):
    """A provider was about to open the artifact: the backend itself needs a GPU."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """A machine with these GPUs, where both TensorRTs, cuda-python and onnxruntime-gpu are installed."""

    def make(*gpus: tuple[str, str]) -> None:
        monkeypatch.setattr(driver, "_load", lambda: FakeDriver(list(gpus)))

    packages = {"tensorrt": TENSORRT, "tensorrt_rtx": RTX, "cuda__bindings": "13.0"}
    install(monkeypatch, tmp_path, **{name: f"__version__ = {version!r}" for name, version in packages.items()})
    installed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    for name, provider in list(PROVIDERS.items()):
        monkeypatch.setitem(PROVIDERS, name, replace(provider, open=opening(name)))
    return make


def opening(name: str) -> Any:
    def open_it(artifact: Artifact, options: LoadOptions, device: int) -> Backend:
        raise OpenedError(name)

    return open_it


def engine(artifact: Artifact, library: str, version: str, capability: str) -> TensorRtEngineRecord:
    graph = artifact.manifest.graphs[0].file
    return TensorRtEngineRecord(
        graph, artifact.manifest.files[graph].sha256, "fp32", f"{library}.engine", library, version, capability,
        default_profiles(512), 32, [],
    )  # fmt: skip


@pytest.fixture
def artifact(artifacts: Path) -> Artifact:
    """Graphs for all providers, and an engine of TensorRT-RTX."""
    read = Artifact.open(artifacts / "tiny")
    graph = read.manifest.graphs[0]
    graphs = [graph, *(replace(graph, dialect=dialect) for dialect in ("tensorrt", "ort-cuda"))]
    return with_engines(Artifact(read.folder, replace(read.manifest, graphs=graphs)), ("tensorrt-rtx", RTX, "any"))


def with_engines(artifact: Artifact, *engines: tuple[str, str, str]) -> Artifact:
    records = [engine(artifact, *each) for each in engines]
    files = {**artifact.manifest.files, **{record.file: FileRecord(1, "0" * 64) for record in records}}
    return Artifact(artifact.folder, replace(artifact.manifest, engines=records, files=files))


def chosen(artifact: Artifact, provider: Any = "auto", **gpu: Any) -> str:
    with pytest.raises(OpenedError) as opened:
        open_backend(artifact, LoadOptions(provider=provider, gpu=GpuOptions(**gpu)))
    return str(opened.value)


@pytest.mark.parametrize(
    ("gpu", "provider"), [(H100, "cuda"), (B200, "cuda"), (L4, "tensorrt-rtx"), (GEFORCE, "tensorrt-rtx"), (T4, "cuda")]
)
def test_auto_takes_tensorrt_rtx_only_where_it_is_supported(
    machine: Callable[..., None], artifact: Artifact, gpu: tuple[str, str], provider: str
) -> None:
    machine(gpu)
    assert chosen(artifact) == provider


def test_an_h100_with_an_engine_of_tensorrt_rtx_is_refused_before_it_is_opened(
    machine: Callable[..., None], artifact: Artifact
) -> None:
    machine(H100)
    with pytest.raises(ProviderError, match=r"8\.9.*9\.0") as caught:
        open_backend(artifact, LoadOptions(provider="tensorrt-rtx"))
    assert caught.value.details["provider"] == "tensorrt-rtx"
    assert "build" not in str(caught.value)


def test_the_log_says_why_auto_did_not_take_the_engine(
    machine: Callable[..., None], artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    machine(H100)
    with caplog.at_level(logging.INFO, "modernrank"):
        chosen(artifact)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "chose cuda; not tensorrt-rtx" in message
    assert "9.0" in message
    assert "build" not in message


@pytest.mark.parametrize(
    ("built", "provider"),
    [
        (("tensorrt", TENSORRT, "9.0"), "tensorrt"),
        (("tensorrt", TENSORRT, "8.6"), "cuda"),  # another GPU's
        (("tensorrt", "10.15.0", "9.0"), "cuda"),  # another version's
    ],
)
def test_auto_takes_an_engine_only_if_it_fits_this_gpu_and_version(
    machine: Callable[..., None], artifact: Artifact, built: tuple[str, str, str], provider: str
) -> None:
    machine(H100)
    assert chosen(with_engines(artifact, built)) == provider


def test_an_engine_that_does_not_fit_any_of_the_gpus_is_not_taken(
    machine: Callable[..., None], artifact: Artifact
) -> None:
    machine(L4, H100)
    assert chosen(artifact, devices=[0]) == "tensorrt-rtx"
    assert chosen(artifact, devices=[1]) == "cuda"
    assert chosen(artifact, devices=[0, 1]) == "cuda"
    with pytest.raises(ProviderError, match="GPU 2.* 2"):
        open_backend(artifact, LoadOptions(provider="cuda", gpu=GpuOptions(devices=[2])))


def test_an_artifact_with_nothing_but_an_unfit_engine_lists_the_reason(
    machine: Callable[..., None], artifact: Artifact
) -> None:
    machine(H100)
    other = with_engines(artifact, ("tensorrt", TENSORRT, "8.6"))
    graphs = [graph for graph in other.manifest.graphs if graph.dialect == "tensorrt"]
    with pytest.raises(ProviderError, match="8.6.*modernrank build-engine") as caught:
        open_backend(Artifact(other.folder, replace(other.manifest, graphs=graphs)), LoadOptions())
    assert list(caught.value.details["reasons"]) == ["tensorrt"]


def test_a_driver_that_reports_no_capability_is_no_obstacle(
    machine: Callable[..., None], artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H100)
    monkeypatch.setattr(driver, "_compute_capability", lambda library, number: "")
    assert chosen(artifact) == "tensorrt-rtx"


@pytest.mark.parametrize(("bindings", "provider"), [("12.8.0", "tensorrt-rtx"), ("13.0.3", "cpu")])
def test_a_driver_that_is_too_old_for_cuda_python_rules_engines_out(
    machine: Callable[..., None],
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    bindings: str,
    provider: str,
) -> None:
    """A driver for CUDA 12: ONNX Runtime requires 13, and engines the version of cuda-python."""
    machine(L4)
    monkeypatch.setattr(driver, "_load", lambda: FakeDriver([L4], cuda=12080))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: bindings)
    assert chosen(artifact) == provider
    if provider == "cpu":
        with pytest.raises(ProviderError, match=r"CUDA 13.*12\.8.*cuda-bindings 12"):
            open_backend(artifact, LoadOptions(provider="tensorrt-rtx"))


def test_a_requested_provider_whose_engine_does_not_fit_is_left_to_its_backend(
    machine: Callable[..., None], artifact: Artifact
) -> None:
    """It says so as an ArtifactError, with what to build."""
    machine(H100)
    assert chosen(with_engines(artifact, ("tensorrt", TENSORRT, "8.6")), "tensorrt") == "tensorrt"


@pytest.mark.parametrize(
    ("gpu", "rows"),
    [
        (H100, {"GPU": "9.0", "tensorrt-rtx": "cannot run: .*9.0", "cuda": "available; provider 'auto'"}),
        (L4, {"GPU": "8.9", "tensorrt-rtx": "available; provider 'auto'", "cuda": "available$"}),
        (("Tesla V100", "7.0"), {"tensorrt": "cannot run: .*7.0", "cuda": "cannot run: .*7.0", "cpu": "available;"}),
    ],
)
def test_info_says_which_providers_run_here_by_compute_capability(
    machine: Callable[..., None], artifact: Artifact, gpu: tuple[str, str], rows: dict[str, str]
) -> None:
    machine(gpu)
    shown = dict(_machine(artifact))
    for name, text in rows.items():
        assert re.search(text, shown[name]), shown


def test_info_says_why_no_engine_fits(machine: Callable[..., None], artifact: Artifact) -> None:
    machine(H100)
    shown = dict(_machine(with_engines(artifact, ("tensorrt", "10.15.0", "9.0"))))
    assert "10.15.0" in shown["tensorrt"]
    assert "build-engine" in shown["tensorrt"]
    assert "build-engine" not in shown["tensorrt-rtx"]

"""Providers: what was asked for runs, or an error says what is installed and what to install."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from modernrank import ArtifactError, InputError, ProviderError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.backends.cuda import driver
from modernrank.backends.cuda.driver import find_driver
from modernrank.backends.onnxruntime.cpu import OnnxRuntimeSession
from modernrank.backends.open import usable_providers
from modernrank.backends.registry import PROVIDERS, choose_provider, why_not
from modernrank.options import GpuSettings

CUDA_IS_HERE = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_auto_takes_the_best_that_the_artifact_can_use() -> None:
    assert choose_provider("auto", {"cpu"}).name == "cpu"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        InputError,
        match="provider 'npu' is unknown; choose one of auto, tensorrt, tensorrt-rtx",
    ):
        choose_provider("npu", {"cpu"})


@pytest.mark.skipif(CUDA_IS_HERE, reason="CUDA is installed")
@pytest.mark.parametrize("name", ["cuda", "ort-tensorrt"])
def test_a_provider_that_is_not_installed_says_what_is_and_how_to_get_it(artifacts: Path, name: str) -> None:
    ep = PROVIDERS[name].execution_provider
    message = (
        rf"provider '{name}' cannot run: it needs {ep}; installed in this environment: .*CPUExecutionProvider.*\. "
        "To get it: pip install"
    )
    with pytest.raises(ProviderError, match=message):
        Reranker.load(artifacts / "tiny", provider=name)
    with pytest.raises(ProviderError, match=f"no provider can run this artifact. {name}: it needs {ep}"):
        choose_provider("auto", {name})


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_tensorrt_that_is_not_installed_says_how_to_get_it(artifacts: Path) -> None:
    with pytest.raises(ProviderError, match="'tensorrt' cannot run: tensorrt is not installed. To get it: pip install"):
        Reranker.load(artifacts / "tiny", provider="tensorrt")


@pytest.mark.skipif(find_driver() is not None, reason="there is a driver")
def test_no_driver_is_told_where_the_libraries_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU that has onnxruntime-gpu."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert why_not("cuda") == "there is no NVIDIA driver on this machine: install one, or use provider 'cpu'"
    monkeypatch.setattr(driver, "find_driver", lambda: driver.Driver(12040, 1))
    assert why_not("cuda") == "it needs CUDA 13, here is the NVIDIA driver for CUDA 12.4, 1 GPUs: update the driver"
    monkeypatch.setattr(driver, "find_driver", lambda: driver.Driver(13000, 0))
    assert why_not("cuda") == "there is no NVIDIA GPU on this machine: use provider 'cpu'"


def test_devices_and_streams_are_for_gpus(artifacts: Path) -> None:
    with pytest.raises(InputError, match="devices are for GPUs; provider 'cpu' runs on the processor"):
        Reranker.load(artifacts / "tiny", devices=[0])
    with pytest.raises(InputError, match="cuda_stream is for one device of provider tensorrt"):
        Reranker.load(artifacts / "tiny", cuda_stream=1)
    with pytest.raises(InputError, match="provider 'cpu' takes no CUDA graphs; leave cuda_graphs out"):
        Reranker.load(artifacts / "tiny", cuda_graphs=True)
    with pytest.raises(InputError, match="gpu_memory_limit is for provider 'cuda', not 'cpu'; leave it out"):
        Reranker.load(artifacts / "tiny", gpu_memory_limit=10**9)


def test_what_is_asked_of_gpus_is_checked() -> None:
    for devices in ([], [0, 0], [-1], [True], 0, "0"):
        with pytest.raises(InputError, match="give different numbers of GPUs"):
            GpuSettings(devices=devices).check("cuda", True, False, None)
    for limit in (0, "2GB", 2e9, True):
        with pytest.raises(InputError, match="gpu_memory_limit is .*; it must be a number of bytes"):
            GpuSettings(memory_limit=limit).check("cuda", True, False, None)
    assert GpuSettings([1, 0], memory_limit=10**9, cuda_graphs=True).check("cuda", True, False, None) == [1, 0]
    with pytest.raises(InputError, match="an engine takes what its profiles need"):
        GpuSettings(memory_limit=10**9).check("tensorrt", True, True, None)


def test_auto_looks_for_a_provider_of_the_precision(artifacts: Path) -> None:
    """An engine of a precision that has not passed does not stand before a graph that may be taken."""
    artifact = Artifact.open(artifacts / "tiny")
    half = replace(artifact.manifest.graphs[0], precision="fp16", providers=["tensorrt", "cuda"])
    manifest = replace(artifact.manifest, graphs=[*artifact.manifest.graphs, half])
    both = Artifact(artifact.folder, manifest)
    assert usable_providers(both) == {"cpu", "cuda"}
    assert usable_providers(both, "fp16") == {"cuda"}
    assert usable_providers(both, "auto") == usable_providers(both, "fp32") == {"cpu"}
    passed = Artifact(artifact.folder, replace(manifest, quality={"fp16": {"passed": True}}))
    assert usable_providers(passed, "auto") == {"cpu", "cuda"}


@pytest.mark.skipif(CUDA_IS_HERE, reason="CUDA is installed")
def test_a_provider_that_onnx_runtime_replaces_is_an_error(artifacts: Path) -> None:
    """Asked for CUDA where there is none, ONNX Runtime warns and runs on the CPU. That must not pass."""
    artifact = Artifact.open(artifacts / "tiny")
    with pytest.raises(
        ProviderError, match="'cuda' was asked for, but ONNX Runtime .* would run on CPUExecutionProvider"
    ):
        OnnxRuntimeSession(artifact.folder, artifact.graph("fp32", "cpu"), PROVIDERS["cuda"], threads=1, labels=1)


def test_a_provider_without_a_graph_is_refused(artifacts: Path) -> None:
    with pytest.raises(ArtifactError, match="no graph in precision 'auto' for provider 'cuda'; it has: fp32 for cpu"):
        Artifact.open(artifacts / "tiny").graph("auto", "cuda")

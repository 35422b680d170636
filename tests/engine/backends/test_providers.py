"""Providers: the one that was asked for runs, or an error says what is installed and what to install."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import onnxruntime
import pytest

from modernrank import ArtifactError, InputError, LoadOptions, ProviderError, Reranker, Scorer
from modernrank.artifact.folder import Artifact
from modernrank.backends.cuda import driver
from modernrank.backends.cuda.driver import find_driver
from modernrank.backends.onnxruntime import loading
from modernrank.backends.onnxruntime.gpu import open_gpu
from modernrank.backends.open import usable_providers
from modernrank.backends.registry import PROVIDERS, choose_provider
from modernrank.options import ProviderName

CUDA_IS_HERE = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_the_registry_has_every_name_in_order() -> None:
    assert tuple(PROVIDERS) == get_args(ProviderName)


def test_auto_takes_the_best_that_the_artifact_can_use() -> None:
    assert choose_provider("auto", {"cpu"}).name == "cpu"


def test_auto_logs_why_it_rejected_better_ones(artifacts: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "modernrank"):
        choose_provider("auto", {"cpu", "tensorrt", "cuda"})
    (message,) = [record.getMessage() for record in caplog.records]
    assert "chose cpu" in message
    assert "tensorrt" in message
    assert "cuda" in message


def test_unknown_names_are_refused(artifacts: Path) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.load(artifacts / "tiny", provider="npu")  # type: ignore[arg-type]
    assert caught.value.details["value"] == "npu"
    assert caught.value.details["choices"] == ("auto", *PROVIDERS)


@pytest.mark.skipif(CUDA_IS_HERE, reason="CUDA is installed")
@pytest.mark.parametrize("name", ["cuda", "ort-tensorrt"])
def test_a_provider_that_is_not_installed_says_what_is_and_how_to_get_it(artifacts: Path, name: Any) -> None:
    with pytest.raises(ProviderError, match="CPUExecutionProvider.*pip install") as caught:
        Reranker.load(artifacts / "tiny", provider=name)
    assert caught.value.details["provider"] == name
    with pytest.raises(ProviderError) as caught:
        choose_provider("auto", {name})
    assert PROVIDERS[name].execution_provider in caught.value.details["reasons"][name]


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_tensorrt_that_is_not_installed_says_how_to_get_it(artifacts: Path) -> None:
    with pytest.raises(ProviderError, match="pip install tensorrt"):
        Reranker.load(artifacts / "tiny", provider="tensorrt")


@pytest.mark.skipif(find_driver() is not None, reason="there is a driver")
def test_a_missing_driver_is_named_where_the_libraries_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU that has onnxruntime-gpu."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert "no NVIDIA driver" in PROVIDERS["cuda"].why_not()
    monkeypatch.setattr(driver, "find_driver", lambda: driver.Driver(12040, 1))
    assert "requires CUDA 13, but the NVIDIA driver supports CUDA 12.4" in PROVIDERS["cuda"].why_not()
    monkeypatch.setattr(driver, "find_driver", lambda: driver.Driver(13000, 0))
    assert "no NVIDIA GPU" in PROVIDERS["cuda"].why_not()
    monkeypatch.setattr(driver, "find_driver", lambda: driver.Driver(13000, 1))
    assert PROVIDERS["cuda"].why_not() == ""


@pytest.mark.parametrize(
    "options", [{"devices": [0]}, {"cuda_stream": 1}, {"cuda_graphs": True}, {"gpu_memory_limit": 10**9}]
)
def test_options_for_gpus_are_refused_on_the_processor(artifacts: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.load(artifacts / "tiny", provider="cpu", **options)
    assert [caught.value.details["argument"]] == list(options)


def test_auto_looks_for_a_provider_of_the_precision(artifacts: Path) -> None:
    """A graph of a precision whose quality has not passed makes no provider usable for "auto"."""
    artifact = Artifact.open(artifacts / "tiny")
    half = replace(artifact.manifest.graphs[0], precision="fp16", dialect="ort-cuda")
    manifest = replace(artifact.manifest, graphs=[*artifact.manifest.graphs, half])
    both = Artifact(artifact.folder, manifest)
    assert usable_providers(both) == {"cpu", "cuda"}
    assert usable_providers(both, "fp16") == {"cuda"}
    assert usable_providers(both, "auto") == usable_providers(both, "fp32") == {"cpu"}
    passed = Artifact(artifact.folder, replace(manifest, quality={"fp16": {"passed": True}}))
    assert usable_providers(passed, "auto") == {"cpu", "cuda"}


def test_unknown_dialects_and_libraries_of_a_later_version_are_ignored(artifacts: Path) -> None:
    artifact = Artifact.open(artifacts / "tiny")
    later = replace(artifact.manifest.graphs[0], dialect="npu-graph", precision="int4")
    manifest = replace(artifact.manifest, graphs=[later, *artifact.manifest.graphs])
    assert usable_providers(Artifact(artifact.folder, manifest)) == {"cpu"}
    assert usable_providers(Artifact(artifact.folder, replace(manifest, graphs=[later]))) == set()


@pytest.mark.skipif(CUDA_IS_HERE, reason="CUDA is installed")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnx_runtime_replaces_is_an_error(artifacts: Path) -> None:
    """Asked for CUDA where there is none, ONNX Runtime warns and runs on the CPU. That must not pass."""
    artifact = Artifact.open(artifacts / "tiny")
    as_if_for_cuda = replace(PROVIDERS["cuda"], dialects=("ort-cpu",))
    with pytest.raises(ProviderError) as caught:
        open_gpu(artifact, as_if_for_cuda, LoadOptions(), device=0)
    assert caught.value.details["running"] == "CPUExecutionProvider"


def test_a_provider_without_a_graph_is_refused(artifacts: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(artifacts / "tiny").graph_to_run("auto", PROVIDERS["cuda"].dialects)
    assert caught.value.details["available"] == [("fp32", "ort-cpu")]


@pytest.mark.parametrize("version", ["1.23.2", "1.29.0", "0.5"])
def test_an_onnxruntime_that_gives_wrong_int8_scores_is_refused(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(ProviderError) as caught:
        Scorer.load(artifacts / "tiny")
    assert caught.value.details["installed"] == version
    assert caught.value.details["minimum"] == ".".join(map(str, loading.MINIMUM_VERSION))

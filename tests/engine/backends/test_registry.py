"""The registry: the provider that was asked for, or an error that says what is installed and what to install."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import onnxruntime
import pytest

from modernrank import InputError, Manifest, ProviderError, Reranker
from modernrank.backends.cuda import driver
from modernrank.backends.cuda.driver import find_driver
from modernrank.backends.registry import PROVIDERS, choose_provider, providers_of
from modernrank.options import ProviderName

CUDA_IS_INSTALLED = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


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


@pytest.mark.skipif(CUDA_IS_INSTALLED, reason="CUDA is installed")
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
    assert "driver" in PROVIDERS["cuda"].why_not()


@pytest.mark.parametrize(
    ("cuda", "gpus", "fact"), [(12040, 1, "CUDA 12.4"), (12040, 1, "CUDA 13"), (13000, 0, "GPU"), (13000, 1, "")]
)
def test_a_driver_must_be_new_enough_and_have_a_gpu(
    monkeypatch: pytest.MonkeyPatch, cuda: int, gpus: int, fact: str
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(driver, "find_driver", lambda: driver.Driver(cuda, gpus))
    reason = PROVIDERS["cuda"].why_not()
    assert fact in reason
    assert bool(reason) == bool(fact)


def test_a_provider_that_cannot_run_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", list)
    with pytest.raises(ProviderError) as caught:
        choose_provider("cpu", {"cpu"})
    assert caught.value.details["provider"] == "cpu"
    assert "CPUExecutionProvider" in caught.value.details["reasons"]["cpu"]


def test_auto_without_a_usable_provider_lists_the_reasons() -> None:
    with pytest.raises(ProviderError) as caught:
        choose_provider("auto", set())
    assert caught.value.details["reasons"] == {}


def test_each_dialect_has_its_providers(artifacts: Path) -> None:
    (graph,) = Manifest.read(artifacts / "tiny").graphs
    expected = {
        "ort-cpu": ["cpu"],
        "standard": ["cpu"],
        "ort-cuda": ["cuda"],
        "tensorrt": ["tensorrt", "tensorrt-rtx"],
        "tensorrt-half-sums": ["tensorrt", "tensorrt-rtx"],
        "tensorrt-decomposed": ["tensorrt", "tensorrt-rtx", "ort-tensorrt"],
        "unknown": [],
    }
    assert {dialect: providers_of(replace(graph, dialect=dialect)) for dialect in expected} == expected


def test_only_tensorrt_runs_engines() -> None:
    assert [name for name, provider in PROVIDERS.items() if provider.runs_engines] == ["tensorrt", "tensorrt-rtx"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.parametrize(("version", "runs"), [("10.15.1", True), ("11.1.0", False)])
def test_tensorrt_10_by_pip_is_found_where_its_python_module_loads_it(tmp_path: Path, version: str, runs: bool) -> None:
    """Its libraries lie in ``tensorrt_libs``, which the loader does not search; the module opens them by their paths.

    In a process of its own, because a library that is loaded once stays.
    """
    major = version.partition(".")[0]
    library = tmp_path / f"libnvinfer.so.{major}"
    subprocess.run(
        ["cc", "-shared", "-x", "c", "/dev/null", "-o", library, f"-Wl,-soname,{library.name}"], check=True
    )  # fmt: skip
    (tmp_path / "tensorrt.py").write_text(f"import ctypes\n__version__ = {version!r}\nctypes.CDLL({str(library)!r})\n")
    program = (
        "import onnxruntime; onnxruntime.get_available_providers = lambda: ['TensorrtExecutionProvider']\n"
        "from modernrank.backends.registry import PROVIDERS\n"
        "provider = PROVIDERS['ort-tensorrt']; print(provider.why_not_installed(provider))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert (output == "") == runs
    assert version in output or runs

"""Providers: what was asked for runs, or an error says what is installed and what to install."""

from pathlib import Path

import onnxruntime
import pytest

from modernrank import ArtifactError, InputError, ProviderError, Reranker
from modernrank.artifact import Artifact
from modernrank.onnxruntime_session import OnnxRuntimeSession
from modernrank.providers import PROVIDERS, choose_provider

CUDA_IS_HERE = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_auto_takes_the_best_that_the_artifact_can_use() -> None:
    assert choose_provider("auto", {"cpu"}).name == "cpu"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="provider 'npu' is unknown; choose one of auto, tensorrt, cuda, cpu"):
        choose_provider("npu", {"cpu"})


@pytest.mark.skipif(CUDA_IS_HERE, reason="CUDA is installed")
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_says_what_is_and_how_to_get_it(artifacts: Path, name: str) -> None:
    ep = PROVIDERS[name].execution_provider
    message = (
        rf"provider '{name}' needs {ep}; installed in this environment: .*CPUExecutionProvider\. To get it: pip install"
    )
    with pytest.raises(ProviderError, match=message):
        Reranker.load(artifacts / "tiny", provider=name)
    with pytest.raises(ProviderError, match="no provider for this artifact"):
        choose_provider("auto", {name})


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

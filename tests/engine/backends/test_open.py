"""Opening a backend: which providers an artifact can use, what auto chooses, and the log of why."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from modernrank import ArtifactError, GpuOptions, InputError, LoadOptions, ProviderError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import OnnxGraph
from modernrank.backends.onnxruntime.gpu import cuda_sessions, open_gpu
from modernrank.backends.open import auto_precision, open_backend, usable_providers
from modernrank.backends.profiles import default_profiles
from modernrank.backends.registry import PROVIDERS
from support.backends import Recording

CUDA_IS_INSTALLED = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.fixture
def tiny(artifacts: Path) -> Artifact:
    return Artifact.open(artifacts / "tiny")


def with_manifest(artifact: Artifact, **changes: object) -> Artifact:
    return Artifact(artifact.folder, replace(artifact.manifest, **changes))  # type: ignore[arg-type]


def with_int8(artifact: Artifact, quality: dict[str, object]) -> Artifact:
    """The artifact with an int8 graph of this quality too, which is not opened."""
    (exact,) = artifact.manifest.graphs
    graphs = [exact, replace(exact, precision="int8", file="model.int8.onnx")]
    return with_manifest(artifact, graphs=graphs, quality={"int8": quality} if quality else {})


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("modernrank.")]


def test_loading_logs_what_runs(tiny: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "modernrank"):
        open_backend(tiny, LoadOptions()).close()
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert any({"tiny", "fp32", "cpu"} <= set(message.split()) for message in messages(caplog))


@pytest.mark.parametrize(
    ("quality", "reason"),
    [({"passed": False, "summary": "it loses 9.5 %"}, "9.5 %"), ({}, "not measured")],
)
def test_loading_logs_why_auto_rejected_a_faster_precision(
    tiny: Artifact, caplog: pytest.LogCaptureFixture, quality: dict[str, object], reason: str
) -> None:
    with caplog.at_level(logging.INFO, "modernrank"):
        backend = open_backend(with_int8(tiny, quality), LoadOptions())
    assert backend.info.precision == "fp32"
    (message,) = [message for message in messages(caplog) if "int8" in message]
    assert "fp32" in message
    assert reason in message


def test_a_precision_that_was_asked_for_is_not_explained(tiny: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "modernrank"):
        open_backend(with_int8(tiny, {"passed": False}), LoadOptions(precision="fp32")).close()
    assert not [message for message in messages(caplog) if "int8" in message]


def test_a_reranker_logs_when_it_loads_and_not_when_it_scores(
    artifacts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "modernrank"), Reranker.load(artifacts / "tiny") as reranker:
        loaded = len(messages(caplog))
        reranker.score([("a", "b")] * 3)
        assert loaded > 0
        assert len(messages(caplog)) == loaded


def test_the_logger_has_a_handler_that_prints_nothing() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("modernrank").handlers)


def test_auto_looks_for_a_provider_of_the_precision(tiny: Artifact) -> None:
    """A graph of a precision whose quality has not passed makes no provider usable for "auto"."""
    half = replace(tiny.manifest.graphs[0], precision="fp16", dialect="ort-cuda")
    both = with_manifest(tiny, graphs=[*tiny.manifest.graphs, half])
    assert usable_providers(both) == {"cpu", "cuda"}
    assert usable_providers(both, "fp16") == {"cuda"}
    assert usable_providers(both, "fp32") == {"cpu"}
    assert usable_providers(both, "auto") == {"cpu"}
    passed = with_manifest(both, quality={"fp16": {"passed": True}})
    assert usable_providers(passed, "auto") == {"cpu", "cuda"}


def test_unknown_dialects_and_libraries_of_a_later_version_are_ignored(tiny: Artifact) -> None:
    later = replace(tiny.manifest.graphs[0], dialect="npu-graph", precision="int4")
    assert usable_providers(with_manifest(tiny, graphs=[later, *tiny.manifest.graphs])) == {"cpu"}
    assert usable_providers(with_manifest(tiny, graphs=[later])) == set()


def test_auto_precision_is_what_the_provider_would_run(tiny: Artifact) -> None:
    assert auto_precision(with_int8(tiny, {"passed": True}), "cpu") == "int8"
    assert auto_precision(with_int8(tiny, {"passed": False}), "cpu") == "fp32"


def test_auto_precision_without_a_graph_or_an_engine_is_an_error(tiny: Artifact) -> None:
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(ArtifactError) as caught:
            auto_precision(tiny, provider)
        assert caught.value.details["available"] == [("fp32", "ort-cpu")]


def test_a_graph_for_engines_without_an_engine_says_what_to_build(tiny: Artifact) -> None:
    graphs = [replace(tiny.manifest.graphs[0], dialect="tensorrt")]
    with pytest.raises(ProviderError, match="modernrank build-engine"):
        open_backend(with_manifest(tiny, graphs=graphs), LoadOptions())


def test_a_precision_that_no_provider_has_is_refused(tiny: Artifact) -> None:
    with pytest.raises(ArtifactError) as caught:
        open_backend(tiny, LoadOptions(precision="int8"))
    assert caught.value.details["available"] == [("fp32", "ort-cpu")]


@pytest.mark.parametrize(
    ("gpu", "argument"),
    [
        (GpuOptions(devices=[0]), "devices"),
        (GpuOptions(cuda_stream=7), "cuda_stream"),
        (GpuOptions(cuda_graphs=True), "cuda_graphs"),
        (GpuOptions(cuda_graphs=False), "cuda_graphs"),
        (GpuOptions(memory_limit=10**9), "gpu_memory_limit"),
    ],
)
def test_options_for_gpus_are_refused_on_the_processor(tiny: Artifact, gpu: GpuOptions, argument: str) -> None:
    with pytest.raises(InputError) as caught:
        open_backend(tiny, LoadOptions(provider="cpu", gpu=gpu))
    assert caught.value.details == {"argument": argument, "provider": "cpu"}


def test_a_device_that_cannot_be_opened_closes_those_before_it(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = PROVIDERS["cpu"]
    opened: list[Recording] = []

    def open_device(artifact: Artifact, options: LoadOptions, device: int) -> Recording:
        if device == 2:
            raise ProviderError("there is no such GPU", device=device)
        opened.append(Recording(cpu.open(artifact, options, device)))
        return opened[-1]

    monkeypatch.setitem(PROVIDERS, "cpu", replace(cpu, open=open_device, options=frozenset({"devices"})))
    with pytest.raises(ProviderError) as caught:
        open_backend(tiny, LoadOptions(gpu=GpuOptions(devices=[0, 1, 2])))
    assert caught.value.details["device"] == 2
    assert [backend.closed for backend in opened] == [1, 1]


@pytest.mark.skipif(CUDA_IS_INSTALLED, reason="CUDA is installed")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnx_runtime_replaces_is_an_error(tiny: Artifact) -> None:
    """Asked for CUDA where there is none, ONNX Runtime warns and runs on the processor. That must not pass."""
    as_if_for_cuda = replace(PROVIDERS["cuda"], dialects=("ort-cpu",))
    with pytest.raises(ProviderError) as caught:
        open_gpu(tiny, as_if_for_cuda, LoadOptions(), device=0)
    assert caught.value.details == {"provider": "cuda", "running": "CPUExecutionProvider"}


CUDA_GRAPH = OnnxGraph("fp16", "ort-cuda", "packed", 23, "model.fp16.onnx", "model.fp16.data", "model.fp16.short.onnx")


def test_short_and_long_rows_have_a_session_each_on_cuda() -> None:
    short, long = cuda_sessions(CUDA_GRAPH, default_profiles(8192), GpuOptions(cuda_graphs=True), device=1)
    assert [graph.file for graph, _ in (short, long)] == [CUDA_GRAPH.short, CUDA_GRAPH.file]
    assert short[1] == long[1]
    assert (short[1]["device_id"], short[1]["enable_cuda_graph"]) == (1, 1)


@pytest.mark.parametrize("limit", [1, 10**9, 10**15])
def test_a_memory_limit_is_given_to_the_one_session_as_it_is(limit: int) -> None:
    """Also one beyond the memory of any GPU."""
    ((graph, options),) = cuda_sessions(CUDA_GRAPH, default_profiles(8192), GpuOptions(memory_limit=limit), device=0)
    assert graph == CUDA_GRAPH
    assert options["gpu_mem_limit"] == limit


def test_a_graph_without_one_for_short_rows_has_one_session() -> None:
    graph = replace(CUDA_GRAPH, short=None)
    ((opened, options),) = cuda_sessions(graph, default_profiles(8192), GpuOptions(), device=0)
    assert opened == graph
    assert "gpu_mem_limit" not in options


def test_a_model_of_short_rows_only_has_one_session() -> None:
    ((graph, _),) = cuda_sessions(CUDA_GRAPH, default_profiles(512), GpuOptions(), device=0)
    assert graph.file == CUDA_GRAPH.short


def test_a_provider_without_a_graph_is_refused(tiny: Artifact) -> None:
    with pytest.raises(ArtifactError) as caught:
        tiny.graph_to_run("auto", PROVIDERS["cuda"].dialects)
    assert caught.value.details["available"] == [("fp32", "ort-cpu")]

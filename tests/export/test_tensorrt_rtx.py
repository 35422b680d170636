"""Engines by TensorRT-RTX, whose parser and builder need no GPU: what is read, which profiles, what is recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, ProfileError, ProviderError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Manifest
from modernrank.backends.cuda import driver
from modernrank.backends.cuda.capability import why_unsupported
from modernrank.backends.cuda.driver import find_driver
from modernrank.backends.profiles import SLOTS, parse_profile
from modernrank.backends.tensorrt.library import TensorRtEngine, find_library
from modernrank.cli import main
from modernrank.export import build_engine, export_checkpoint
from support import fake_cuda_runtime
from support.checkpoints import checkpoint
from support.fake_cuda_runtime import FakeRuntime
from support.fake_driver import FakeDriver
from support.full_size import write_full_size

pytestmark = pytest.mark.tensorrt
trt: Any = find_library("tensorrt-rtx")  # None in the default environment, where these tests do not run

TINY = checkpoint("tiny")


def exported(folder: Path, graph: str) -> Path:
    export_checkpoint(TINY, folder, precision="fp16", graph=graph)
    return folder


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-decomposed", "tensorrt-half-sums"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = exported(tmp_path_factory.mktemp("engines") / request.param, request.param)
    profiles = [parse_profile("short=8x128"), parse_profile("long=1x192:2x512:2x512")]
    build_engine(folder, library="tensorrt-rtx", profiles=profiles)
    return folder


def test_the_manifest_names_the_engine_and_the_hash_of_its_graph(built: Path) -> None:
    artifact = Artifact.open(built)
    (engine,) = artifact.manifest.engines
    assert (engine.library, engine.compute_capability, engine.precision) == ("tensorrt-rtx", "any", "fp16")
    assert engine.graph_sha256 == artifact.manifest.files[engine.graph].sha256
    assert [str(p) for p in engine.profiles] == ["short=1x64:1x128:8x128", "long=1x192:2x512:2x512"]
    stem = engine.file.removesuffix("engine")
    artifact.check_files([engine.file, f"{stem}log", f"{stem}layers.json"])
    assert artifact.manifest.files[engine.file].size > 100_000


def test_inputs_outputs_and_profiles_are_those_of_the_contract(built: Path) -> None:
    report = json.loads(next(built.glob("*.layers.json")).read_text())
    ids = {"type": "INT32", "dims": [-1, -1]}
    assert report["inputs"] == {
        "input_ids": ids,
        "position_ids": ids,
        "segment_ids": ids,
        "slots": {"type": "INT32", "dims": [-1]},
    }
    assert report["outputs"] == {"logits": {"type": "FLOAT", "dims": [-1, -1, 1]}}
    short, long = report["profiles"]
    assert short["input_ids"] == [[1, 64], [1, 128], [8, 128]]
    assert long["segment_ids"] == [[1, 192], [2, 512], [2, 512]]
    assert short["slots"] == long["slots"] == [[SLOTS]] * 3
    kinds = {layer["kind"] for layer in report["layers"]}
    assert ("ATTENTION_INPUT" in kinds) == (built.name != "tensorrt-decomposed")
    in_mlp = [layer for layer in report["layers"] if "mlp" in layer["name"] and "norm" not in layer["name"]]
    products = {layer["outputs"][0]["type"] for layer in in_mlp if layer["kind"] == "MATRIX_MULTIPLY"}
    to_half = [layer for layer in in_mlp if layer["kind"] == "CAST" and layer["outputs"][0]["type"] == "HALF"]
    if built.name == "tensorrt-half-sums":
        assert (products, to_half) == ({"HALF"}, [])
    else:  # TensorRT fuses such a product with its casts: the engine holds the weights in float16 (see its size)
        assert products == {"FLOAT"}
        assert len(to_half) == 6 * 3


def test_a_second_build_replaces_the_first(tmp_path: Path) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    for text in ("short=1x64", "short=2x64"):
        messages: list[str] = []
        build_engine(folder, library="tensorrt-rtx", profiles=[parse_profile(text)], report=messages.append)
        assert any(message.startswith("TensorRT: ") for message in messages)
    (engine,) = Manifest.read(folder).engines
    assert str(engine.profiles[0]) == "short=1x64:1x64:2x64"
    export_checkpoint(TINY, folder, precision="fp16", force=True)  # the engine is a part of the artifact
    assert not list(folder.glob("*.engine"))


@pytest.mark.skipif(find_driver() is not None, reason="there is a driver")
def test_without_a_driver_the_engine_is_not_loaded(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderError) as refused:
        Reranker.load(built, provider="tensorrt-rtx")
    assert refused.value.details["provider"] == "tensorrt-rtx"
    assert main(["info", str(built)]) == 0
    assert "tensorrt-rtx" in capsys.readouterr().out


def test_profiles_that_contradict_are_refused_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    assert main(["build-engine", str(folder), "--profile", "a=64x512", "--profile", "b=4x128"]) == 1
    assert "1x64" in capsys.readouterr().err


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    with pytest.raises(ProfileError):
        build_engine(folder, library="tensorrt-rtx", profiles=[parse_profile("a=1x9000")])
    with pytest.raises(ProviderError):
        build_engine(folder, library="tensorrt")


def test_a_graph_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = exported(tmp_path / "artifact", "tensorrt")
    graph = folder / "model.fp16.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(ArtifactError) as refused:
        build_engine(folder, library="tensorrt-rtx")
    assert refused.value.details["path"] == graph
    export_checkpoint(TINY, tmp_path / "cpu")
    with pytest.raises(ArtifactError) as refused:
        build_engine(tmp_path / "cpu", library="tensorrt-rtx")
    assert refused.value.details["available"] == [("fp32", "ort-cpu")]


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Builder configurations as they were when an engine was built."""
    seen: list[Any] = []
    build = trt.Builder.build_serialized_network

    def spy(builder: Any, network: Any, config: Any) -> Any:
        seen.append(config)
        return build(builder, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", spy)
    return seen


SMALL = [parse_profile("small=1x64")]


@pytest.mark.parametrize("allow_tf32", [False, True])
def test_products_of_float32_are_not_rounded_unless_it_is_allowed(
    tmp_path: Path, configs: list[Any], allow_tf32: bool
) -> None:
    """TensorRT rounds by default: a new configuration has the flag."""
    assert trt.Builder(trt.Logger()).create_builder_config().get_flag(trt.BuilderFlag.TF32)
    folder = exported(tmp_path / "artifact", "tensorrt")
    flag = ["--allow-tf32"] if allow_tf32 else []
    assert main(["build-engine", str(folder), "--library", "tensorrt-rtx", "--profile", "small=1x64", *flag]) == 0
    assert configs[0].get_flag(trt.BuilderFlag.TF32) == allow_tf32
    (engine,) = Manifest.read(folder).engines
    assert engine.options == (["allow_tf32"] if allow_tf32 else [])


def test_memory_is_the_callers_so_that_runs_can_be_captured(tmp_path: Path, configs: list[Any]) -> None:
    build_engine(exported(tmp_path / "artifact", "tensorrt"), library="tensorrt-rtx", profiles=SMALL)
    assert configs[0].get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert configs[0].num_compute_capabilities == 0  # portable


@pytest.mark.parametrize(("capability", "warns"), [("8.6", False), ("9.0", True)])
def test_a_build_says_if_this_machine_cannot_run_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, warns: bool
) -> None:
    monkeypatch.setattr(driver, "_load", lambda: FakeDriver([("a GPU", capability)]))
    messages: list[str] = []
    folder = exported(tmp_path / "artifact", "tensorrt")
    (engine,) = build_engine(folder, library="tensorrt-rtx", profiles=SMALL, report=messages.append).engines
    assert engine.compute_capability == "any"
    assert any("will not run on this machine" in message for message in messages) == warns


def build_for(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    """Let the next builds be for one compute capability, instead of for all."""
    build = trt.Builder.build_serialized_network

    def for_one(builder: Any, network: Any, config: Any) -> Any:
        config.num_compute_capabilities = 1
        target = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}")
        assert config.set_compute_capability(target, 0)
        return build(builder, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", for_one)


@pytest.mark.parametrize("capability", ["8.0", "8.6", "8.9", "12.0", "12.1"])
def test_engines_are_built_for_every_gpu_that_the_provider_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    build_for(monkeypatch, capability)
    assert build_engine(exported(tmp_path / "artifact", "tensorrt"), library="tensorrt-rtx", profiles=SMALL).engines
    assert why_unsupported("tensorrt-rtx", capability) == ""


@pytest.mark.parametrize("graph", ["tensorrt", "tensorrt-decomposed"])
def test_the_library_has_no_float32_products_on_turing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: str
) -> None:
    """So the provider refuses it, although the library supports Turing: pooling and head are float32."""
    build_for(monkeypatch, "7.5")
    with pytest.raises(ProviderError, match="Turing.*FP32 GEMM is not supported"):
        build_engine(exported(tmp_path / "artifact", graph), library="tensorrt-rtx", profiles=SMALL)
    assert why_unsupported("tensorrt-rtx", "7.5")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorRT-RTX's own, of timings
def test_an_engine_of_tensorrt_is_built_on_its_gpu_which_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT has the same builder under another name, and works on the GPU of its thread."""
    runtime = FakeRuntime(gpus=2)
    fake_cuda_runtime.install(monkeypatch, runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    devices: list[int] = []
    build = trt.Builder.build_serialized_network

    def spy(*arguments: Any) -> Any:
        devices.append(runtime.device)
        return build(*arguments)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", spy)
    folder = exported(tmp_path / "artifact", "tensorrt")
    manifest = build_engine(folder, library="tensorrt", profiles=SMALL, device=1)
    assert devices == [1]
    assert not runtime.contexts
    (engine,) = Manifest.read(folder).engines
    assert (engine.gpu, engine.multiprocessors, engine.compute_capability) == ("GPU 1", 132, "9.0")
    assert engine == manifest.engines[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_library_without_a_lean_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What TensorRT-RTX answers here, TensorRT does where its lean package is missing."""
    fake_cuda_runtime.install(monkeypatch, FakeRuntime())
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    folder = exported(tmp_path / "artifact", "tensorrt")
    with pytest.raises(ProviderError, match="libnvinfer_lean.*pip install tensorrt-lean"):
        build_engine(folder, library="tensorrt", profiles=SMALL, version_compatible=True)
    assert not Manifest.read(folder).engines


@pytest.mark.skipif(find_driver() is not None, reason="there is a driver")
def test_the_real_library_says_why_it_loads_no_engine(built: Path, tmp_path: Path) -> None:
    (record,) = Manifest.read(built).engines
    with pytest.raises(ProviderError, match="driver version is insufficient.*update the NVIDIA driver"):
        TensorRtEngine("tensorrt-rtx", built / record.file, record.profiles, record.slots)
    damaged = tmp_path / "damaged.engine"
    damaged.write_bytes(b"no engine" * 100)
    with pytest.raises(ArtifactError, match="magicTag.*modernrank build-engine"):
        TensorRtEngine("tensorrt-rtx", damaged, record.profiles, record.slots)


def test_the_real_library_has_what_a_context_is_set_to() -> None:
    """Nothing of it can be made without a GPU; the names are those that are used."""
    for name in ("set_execution_context_allocation_strategy", "create_runtime_cache", "set_runtime_cache"):
        assert callable(getattr(trt.IRuntimeConfig, name))
    for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(trt.IRuntimeConfig, name), property)
    assert {"WHOLE_GRAPH_CAPTURE", "DISABLED"} <= set(trt.CudaGraphStrategy.__members__)
    assert "NONE" in trt.DynamicShapesKernelSpecializationStrategy.__members__
    assert {"serialize", "deserialize"} <= set(dir(trt.IRuntimeCache))
    assert {"create_runtime_config", "get_device_memory_size_for_profile_v2"} <= set(dir(trt.ICudaEngine))
    assert {"is_stream_capturable", "set_device_memory"} <= set(dir(trt.IExecutionContext))
    assert {"get_engine_validity", "engine_host_code_allowed"} <= set(dir(trt.Runtime))
    supported = {name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    for capability in ("7.0", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0", "12.1"):
        assert (why_unsupported("tensorrt-rtx", capability) == "") == (capability.replace(".", "") in supported)


def test_the_full_size_builds_for_short_and_long_contexts(tmp_path: Path) -> None:
    """ModernBERT-base with random weights, the profiles that are the default."""
    folder = tmp_path / "artifact"
    export_checkpoint(write_full_size(tmp_path / "base"), folder, precision="fp16")
    manifest = build_engine(folder, library="tensorrt-rtx")
    (engine,) = manifest.engines
    assert [str(p) for p in engine.profiles] == ["short=1x64:16x512:64x512", "long=1x576:2x2048:4x8192"]
    assert 250e6 < manifest.files[engine.file].size < 500e6

"""Engines of TensorRT and TensorRT-RTX on stand-ins for the libraries: settings, caches, and errors with reasons."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, BackendError, ProviderError
from modernrank.artifact.manifest import Profile
from modernrank.backends.profiles import parse_profile
from modernrank.backends.tensorrt.library import TensorRtEngine
from support import fake_tensorrt
from support.fake_tensorrt import (
    CudaGraphStrategy,
    DynamicShapesKernelSpecializationStrategy,
    FakeTensorRt,
    engine_file,
)

SCRATCH = 256 * 7


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    return fake_tensorrt.install(monkeypatch, FakeTensorRt())


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    return fake_tensorrt.install(monkeypatch, FakeTensorRt("tensorrt_rtx", "1.7.1.116"))


@pytest.fixture(autouse=True)
def _caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODERNRANK_CACHE", str(tmp_path / "caches"))


def profiles(number: int = 1) -> list[Profile]:
    return [parse_profile(f"p{i}=8x{64 * (i + 1)}") for i in range(number)]


def load(folder: Path, library: str = "tensorrt", content: bytes = engine_file(), **arguments: Any) -> TensorRtEngine:
    file = folder / "model.engine"
    file.write_bytes(content)
    return TensorRtEngine(library, file, profiles(), 32, **arguments)


def run(engine: TensorRtEngine, stream: int = 5) -> None:
    context = engine.context(0, SCRATCH, 1000, stream)
    context.set_input("input_ids", 256, (1, 64))
    context.set_output("logits", 512)
    context.enqueue(stream)


def test_an_engine_of_tensorrt_runs(trt: FakeTensorRt, tmp_path: Path) -> None:
    engine = load(tmp_path)
    assert (engine.runtime, engine.captures_itself) == ("tensorrt 11.1.0.106", False)
    assert engine.scratch(0) == 1000
    run(engine)
    assert engine.context(0, SCRATCH, 1000, 5).can_capture(5)
    engine.close()


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_tensorrt_rtx_captures_by_itself_and_compiles_for_no_shape(
    rtx: FakeTensorRt, tmp_path: Path, cuda_graphs: bool
) -> None:
    engine = load(tmp_path, "tensorrt-rtx", cuda_graphs=cuda_graphs)
    run(engine)
    (config,) = rtx.configs
    assert engine.captures_itself is cuda_graphs
    assert config.cuda_graph_strategy is (
        CudaGraphStrategy.WHOLE_GRAPH_CAPTURE if cuda_graphs else CudaGraphStrategy.DISABLED
    )
    assert config.dynamic_shapes_kernel_specialization_strategy is DynamicShapesKernelSpecializationStrategy.NONE
    assert all(context.config is config for context in rtx.contexts)


def test_a_context_says_whether_a_stream_can_be_captured(rtx: FakeTensorRt, tmp_path: Path) -> None:
    rtx.uncapturable = {0}
    context = load(tmp_path, "tensorrt-rtx").context(0, SCRATCH, 1000, 5)
    assert [context.can_capture(stream) for stream in (5, 0)] == [True, False]


class TestCache:
    def load(self, folder: Path, **arguments: Any) -> TensorRtEngine:
        return load(folder, "tensorrt-rtx", **arguments)

    def files(self, folder: Path) -> list[Path]:
        return sorted(folder.rglob("*.cache*"))

    def test_kernels_are_kept_outside_the_artifact_and_loaded_again(self, rtx: FakeTensorRt, tmp_path: Path) -> None:
        artifact = tmp_path / "artifact"
        artifact.mkdir()
        engine = self.load(artifact)
        run(engine)
        rtx.contexts.clear()
        engine.close()
        (file,) = self.files(tmp_path)
        assert file.parent == tmp_path / "caches" / "tensorrt-rtx"
        again = self.load(artifact)
        cache = rtx.configs[-1].cache
        assert cache is not None
        loaded = cache()
        assert loaded is not None
        assert loaded.kernels == [0]
        again.close()

    def test_a_folder_can_be_chosen(self, rtx: FakeTensorRt, tmp_path: Path) -> None:
        engine = self.load(tmp_path, cache=tmp_path / "mine")
        run(engine)
        engine.save()
        assert len(self.files(tmp_path / "mine")) == 1

    def test_what_has_not_changed_is_not_written(self, rtx: FakeTensorRt, tmp_path: Path) -> None:
        engine = self.load(tmp_path)
        run(engine)
        engine.save()
        (file,) = self.files(tmp_path)
        file.unlink()
        engine.save()
        assert not self.files(tmp_path)

    @pytest.mark.parametrize("damage", ["truncated", "another GPU", "another version"])
    def test_a_foreign_or_damaged_file_is_discarded_and_replaced(
        self, rtx: FakeTensorRt, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        engine = self.load(tmp_path)
        run(engine)
        engine.save()
        (file,) = self.files(tmp_path)
        kept = file.read_bytes()
        damaged = {
            "truncated": kept[:-5],
            "another GPU": kept.replace(b"L4", b"T4"),
            "another version": kept.replace(b"1.7.1", b"1.4.0"),
        }[damage]
        file.write_bytes(damaged)
        with caplog.at_level(logging.INFO, "modernrank"):
            again = self.load(tmp_path)
        assert [str(file) in record.getMessage() for record in caplog.records] == [True]
        run(again)
        again.save()
        assert file.read_bytes() == kept
        assert self.files(tmp_path) == [file]

    def test_a_folder_that_cannot_be_written_is_no_error(
        self, rtx: FakeTensorRt, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        engine = self.load(tmp_path, cache=tmp_path / "file")
        run(engine)
        engine.close()
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        assert not self.files(tmp_path)

    def test_a_user_without_a_home_has_no_cache(
        self, rtx: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_home() -> Path:
            raise RuntimeError("Could not determine home directory.")

        for name in ("MODERNRANK_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", no_home)
        engine = self.load(tmp_path)
        run(engine)
        engine.close()
        assert not self.files(tmp_path)


def test_an_engine_brings_its_runtime_only_if_its_record_says_so(trt: FakeTensorRt, tmp_path: Path) -> None:
    content = engine_file(lean=True)
    with pytest.raises(ArtifactError, match="getEngineHostCodeAllowed.*build-engine") as refused:
        load(tmp_path, content=content)
    assert refused.value.details["path"] == tmp_path / "model.engine"
    run(load(tmp_path, content=content, options=["version_compatible"]))


def test_a_lean_runtime_that_is_missing_is_named(trt: FakeTensorRt, tmp_path: Path) -> None:
    missing = engine_file(lean=True, refused="Unable to load library: libnvinfer_lean.so.11")
    with pytest.raises(ArtifactError, match="pip install tensorrt-lean"):
        load(tmp_path, content=missing, options=["version_compatible"])


def test_a_runtime_that_cannot_start_says_why(trt: FakeTensorRt, tmp_path: Path) -> None:
    trt.has_driver = False
    with pytest.raises(ProviderError, match="CUDA initialization failure") as refused:
        load(tmp_path)
    assert refused.value.details["provider"] == "tensorrt"


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
def test_a_damaged_engine_quotes_the_cause(trt: FakeTensorRt, rtx: FakeTensorRt, tmp_path: Path, library: str) -> None:
    with pytest.raises(ArtifactError, match="magicTag.*build-engine"):
        load(tmp_path, library, b"not an engine")


@pytest.mark.parametrize(
    ("diagnosis", "reason", "kind", "remedy"),
    [
        ("UNSUPPORTED_CC", "does not support this compute capability", ProviderError, "'cuda'"),
        ("OLD_CUDA_DRIVER", "an old driver", ProviderError, "update the NVIDIA driver"),
        ("INSUFFICIENT_GPU_MEMORY", "it does not fit", BackendError, "--profile"),
        ("VERSION_MISMATCH", "another version", ArtifactError, "build-engine"),
        ("", "CUDA driver version is insufficient for CUDA runtime version", ProviderError, "update the NVIDIA driver"),
        ("", "Cuda Runtime (out of memory)", BackendError, "--profile"),
    ],
)
def test_each_obstacle_has_its_remedy(
    rtx: FakeTensorRt, tmp_path: Path, diagnosis: str, reason: str, kind: type[Exception], remedy: str
) -> None:
    with pytest.raises(kind) as refused:
        load(tmp_path, "tensorrt-rtx", engine_file(refused=reason, diagnosis=diagnosis))
    assert reason in str(refused.value)
    assert remedy in str(refused.value)
    if diagnosis == "UNSUPPORTED_CC":
        assert "build" not in str(refused.value)


def test_an_engine_of_other_profiles_is_refused(trt: FakeTensorRt, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="2 profiles.* 1"):
        load(tmp_path, content=engine_file(2))


def test_a_profile_that_cannot_be_set_quotes_the_cause(trt: FakeTensorRt, tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(engine_file(1))
    engine = TensorRtEngine("tensorrt", tmp_path / "model.engine", profiles(1), 32)
    engine.profiles = tuple(profiles(2))
    with pytest.raises(BackendError, match="profile 1 is out of range"):
        engine.context(1, SCRATCH, 1000, 5)


def test_a_context_that_cannot_be_made_quotes_the_cause(trt: FakeTensorRt, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="out of memory"):
        load(tmp_path, content=engine_file(too_large=True)).context(0, SCRATCH, 1000, 5)


def test_refused_shapes_addresses_and_batches_quote_the_cause(trt: FakeTensorRt, tmp_path: Path) -> None:
    context = load(tmp_path).context(0, SCRATCH, 1000, 5)
    with pytest.raises(BackendError, match="input_ids.*does not satisfy"):
        context.set_input("input_ids", 256, (0, 64))
    with pytest.raises(BackendError, match="Address is not set"):
        context.enqueue(5)
    with pytest.raises(BackendError, match="address of logits"):
        context.set_output("logits", 0)


def test_errors_of_an_earlier_engine_are_not_quoted(trt: FakeTensorRt, tmp_path: Path) -> None:
    assert load(tmp_path)
    trt.report("of another engine")
    with pytest.raises(ArtifactError, match="magicTag") as refused:
        load(tmp_path, content=b"damaged")
    assert "another engine" not in str(refused.value)

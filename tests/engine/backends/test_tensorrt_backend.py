"""The TensorRT backend on a GPU that keeps CUDA's rules: the same scores, nothing out of bounds, nothing leaked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import BackendError, ClosedError, InputError, ProfileError, Reranker
from modernrank.artifact.manifest import Profile
from modernrank.backends.base import BackendInfo
from modernrank.backends.multi_device import MultiDeviceBackend
from modernrank.backends.profiles import PREFETCH_PAIRS, SLOTS, default_profiles, parse_profile
from modernrank.backends.tensorrt.backend import TensorRtBackend
from modernrank.backends.tensorrt.lane import RUNS_BEFORE_CAPTURE
from modernrank.batching.batch import Batch
from modernrank.export import export_checkpoint
from support.checkpoints import checkpoint, golden
from support.fake_gpu import FakeCuda, FakeEngine
from support.scoring import reranker_of

WORDS = (1, 7, 7, 30, 61, 62, 90, 180, 30, 12)
PAIRS = [(f"query {i}", "x " * words + str(i)) for i, words in enumerate(WORDS * 2)] + [("long", "x " * 600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gpu") / "artifact"
    export_checkpoint(checkpoint("tiny"), out, graph="tensorrt")
    return out


@pytest.fixture(scope="module")
def expected(artifacts: Path) -> np.ndarray:
    with Reranker.load(artifacts / "tiny") as reranker:
        return reranker.score(PAIRS)


class Gpu:
    """A fake GPU with an engine, its backend and a reranker."""

    def __init__(
        self,
        folder: Path,
        profiles: list[Profile] | None = None,
        workers: int = 2,
        max_cuda_graphs: int = 16,
        cuda: FakeCuda | None = None,
    ) -> None:
        self.cuda = cuda or FakeCuda()
        profiles = profiles or default_profiles(8192)
        self.engine = FakeEngine(self.cuda, folder / "model.fp32.onnx", profiles, SLOTS)
        info = BackendInfo("tensorrt", self.engine.runtime, "", "fp32", "tensorrt", 1, workers)
        self.backend = TensorRtBackend(self.engine, self.cuda, info, labels=1, max_cuda_graphs=max_cuda_graphs)
        self.reranker = reranker_of(folder, self.backend)


@pytest.fixture
def gpu(folder: Path) -> Iterator[Gpu]:
    opened = Gpu(folder)
    yield opened
    opened.reranker.close()
    assert opened.cuda.everything_is_given_back


def test_scores_are_those_of_the_processor(gpu: Gpu, expected: np.ndarray) -> None:
    assert np.abs(gpu.reranker.score(PAIRS) - expected).max() < 1e-4
    assert np.abs(gpu.reranker.score(PAIRS[::-1])[::-1] - expected).max() < 1e-4
    assert {tokens % 64 for _, tokens in gpu.engine.shapes} == {0}


@pytest.mark.parametrize("dialect", ["tensorrt", "tensorrt-decomposed"])
def test_scores_are_those_of_transformers(tmp_path: Path, dialect: str) -> None:
    export_checkpoint(checkpoint("tiny"), tmp_path / dialect, graph=dialect)
    known = golden("tiny")
    pairs = [tuple(pair) for pair in known["pairs"]]
    logits = np.array(known["logits"], np.float32)[:, 0]
    with Gpu(tmp_path / dialect).reranker as reranker:
        assert np.abs(reranker.score(pairs) - logits).max() < 1e-4


def test_a_shape_that_recurs_becomes_a_cuda_graph_and_scores_the_same(gpu: Gpu, expected: np.ndarray) -> None:
    for i in range(RUNS_BEFORE_CAPTURE + 6):
        pair = i % len(WORDS[:6])
        assert abs(gpu.reranker.score([PAIRS[pair]])[0] - expected[pair]) < 1e-4
    assert gpu.cuda.launched > 0


def test_the_next_pairs_are_tokenised_while_others_run(gpu: Gpu, artifacts: Path) -> None:
    """More pairs than a window: in order, and an error comes after the scores of the windows before it."""
    pairs = [(f"q{i % 40}", "x " * (i % 5)) for i in range(2 * PREFETCH_PAIRS + 100)]
    with Reranker.load(artifacts / "tiny") as reranker:
        expected = reranker.score(pairs)
    assert np.abs(gpu.reranker.score(pairs) - expected).max() < 1e-4
    scores = gpu.reranker.score_iter([*pairs, ("a", None)])  # type: ignore[list-item]
    before: list[Any] = []
    with pytest.raises(InputError, match=f"pair {len(pairs)}"):
        before.extend(scores)
    assert np.abs(np.array(before) - expected[: len(before)]).max() < 1e-4
    assert 0 < len(before) < len(pairs)
    next(gpu.reranker.score_iter(pairs))  # left early: the thread ends with it


def test_cuda_graphs_are_bounded(folder: Path, expected: np.ndarray) -> None:
    gpu = Gpu(folder, workers=1, max_cuda_graphs=2)
    for _ in range(2):
        for pair in (0, 4, 6, 7, 8) * RUNS_BEFORE_CAPTURE:
            assert abs(gpu.reranker.score([PAIRS[pair]])[0] - expected[pair]) < 1e-4
    assert len(gpu.cuda.graphs) <= 2
    assert gpu.cuda.destroyed_graphs > 0
    gpu.reranker.close()
    assert gpu.cuda.everything_is_given_back


def test_a_cuda_graph_outlives_runs_of_other_shapes(folder: Path, expected: np.ndarray) -> None:
    """A shape is captured, others run in between, eagerly and captured, and the graph is launched again."""
    gpu = Gpu(folder, workers=1)
    for pair in (0, 0, 4, 0, 6, 6, 0, 4, 4, 6, 0, 20, 0):
        assert abs(gpu.reranker.score([PAIRS[pair]])[0] - expected[pair]) < 1e-4
    assert gpu.cuda.launched > 4
    assert gpu.engine.contexts == len(gpu.engine.profiles) + len(gpu.cuda.graphs)
    gpu.reranker.close()
    assert gpu.cuda.everything_is_given_back


@pytest.mark.parametrize("captures", [0, 1])
def test_a_capture_that_fails_costs_nothing_but_the_graph(folder: Path, expected: np.ndarray, captures: int) -> None:
    gpu = Gpu(folder, workers=1, cuda=FakeCuda(captures=captures))
    for pair in (0, 4, 6) * (RUNS_BEFORE_CAPTURE + 3):
        assert abs(gpu.reranker.score([PAIRS[pair]])[0] - expected[pair]) < 1e-4
    assert gpu.cuda.failed_captures == 2 - captures  # once for each shape
    assert len(gpu.cuda.graphs) == captures
    gpu.reranker.close()
    assert gpu.cuda.everything_is_given_back


def test_warming_up_makes_the_cuda_graph_of_every_lane(gpu: Gpu) -> None:
    gpu.reranker.warmup([64, 128])
    assert len(gpu.cuda.graphs) == 2 * gpu.backend.info.workers
    before = gpu.cuda.launched
    for _ in range(4):
        gpu.reranker.score([PAIRS[0]])
    assert gpu.cuda.launched == before + 4


def test_a_library_that_captures_by_itself_is_left_to_it(folder: Path, expected: np.ndarray) -> None:
    """As TensorRT-RTX is."""
    gpu = Gpu(folder)
    engine = FakeEngine(gpu.cuda, folder / "model.fp32.onnx", gpu.engine.profiles, SLOTS)
    engine.captures_itself = True
    backend = TensorRtBackend(engine, gpu.cuda, gpu.backend.info, labels=1)
    with reranker_of(folder, backend) as reranker:
        for _ in range(RUNS_BEFORE_CAPTURE + 3):
            assert abs(reranker.score([PAIRS[0]])[0] - expected[0]) < 1e-4
    assert gpu.cuda.launched == 0


def test_a_library_without_cuda_graphs_runs_every_shape_anew(folder: Path, expected: np.ndarray) -> None:
    """As pycuda is."""
    gpu = Gpu(folder)
    engine = FakeEngine(gpu.cuda, folder / "model.fp32.onnx", gpu.engine.profiles, SLOTS)
    gpu.cuda.has_graphs = False
    backend = TensorRtBackend(engine, gpu.cuda, gpu.backend.info, labels=1)
    with reranker_of(folder, backend) as reranker:
        for _ in range(RUNS_BEFORE_CAPTURE + 3):
            assert abs(reranker.score([PAIRS[0]])[0] - expected[0]) < 1e-4
    assert gpu.cuda.launched == 0


def test_many_callers_share_the_lanes(gpu: Gpu, expected: np.ndarray) -> None:
    with ThreadPoolExecutor(8) as callers:
        parts = list(callers.map(lambda i: gpu.reranker.score(PAIRS[i : i + 5]), range(16)))
    for i, part in enumerate(parts):
        assert np.abs(part - expected[i : i + 5]).max() < 1e-4


def test_a_pair_above_every_profile_is_refused_with_its_shape(folder: Path) -> None:
    gpu = Gpu(folder, [parse_profile("short=16x128")])
    with pytest.raises(ProfileError, match="short=1x64:2x128:16x128") as caught:
        gpu.reranker.score(PAIRS)
    gpu.reranker.close()
    assert caught.value.details["rows"] == 1
    assert caught.value.details["tokens"] > 128
    assert gpu.cuda.everything_is_given_back


def test_too_little_memory_is_an_error_and_nothing_stays_allocated(folder: Path) -> None:
    cuda = FakeCuda(total=600_000)
    with pytest.raises(BackendError) as caught:
        Gpu(folder, cuda=cuda)
    assert caught.value.details["total"] == 600_000
    assert caught.value.details["requested"] > caught.value.details["free"]
    assert cuda.everything_is_given_back


def test_a_closed_backend_refuses_batches(folder: Path) -> None:
    gpu = Gpu(folder)
    gpu.reranker.close()
    gpu.backend.close()
    ids = np.ones((1, 64), np.int64)
    with pytest.raises(ClosedError):
        gpu.backend.run(Batch(ids, ids, ids, slots=1))


def test_a_callers_stream_is_used_and_kept(folder: Path, expected: np.ndarray) -> None:
    cuda = FakeCuda()
    with cuda.active():
        stream = cuda.create_stream()
    engine = FakeEngine(cuda, folder / "model.fp32.onnx", default_profiles(8192), SLOTS)
    info = BackendInfo("tensorrt", engine.runtime, "", "fp32", "tensorrt", 1, workers=1)
    backend = TensorRtBackend(engine, cuda, info, labels=1, stream=stream)
    with reranker_of(folder, backend) as reranker:
        assert np.abs(reranker.score(PAIRS) - expected).max() < 1e-4
    assert list(cuda.streams) == [stream]


def test_closing_frees_everything_else_if_a_lane_cannot_be_freed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an error that stays in CUDA. Callers that wait are refused, and not left waiting."""
    cuda = FakeCuda()

    def fail(stream: int) -> None:
        FakeCuda.destroy_stream(cuda, stream)
        raise BackendError("an illegal memory access was encountered")

    monkeypatch.setattr(cuda, "destroy_stream", fail)
    gpu, other = Gpu(folder, cuda=cuda), Gpu(folder)
    both = MultiDeviceBackend([gpu.backend, other.backend])
    with pytest.raises(BackendError):
        both.close()
    assert gpu.engine.closed
    assert gpu.cuda.everything_is_given_back
    assert other.cuda.everything_is_given_back
    ids = np.ones((1, 64), np.int64)
    with pytest.raises(ClosedError):
        gpu.backend.run(Batch(ids, ids, ids, slots=1))


def test_several_devices_share_the_batches(folder: Path, expected: np.ndarray) -> None:
    gpus = [Gpu(folder), Gpu(folder)]
    backend = MultiDeviceBackend([gpu.backend for gpu in gpus])
    assert backend.info.workers == 4
    with reranker_of(folder, backend) as reranker:
        assert np.abs(reranker.score(PAIRS) - expected).max() < 1e-4
        assert np.abs(reranker.score(PAIRS[:3]) - expected[:3]).max() < 1e-4
    assert all(gpu.engine.shapes for gpu in gpus)
    assert all(gpu.cuda.everything_is_given_back for gpu in gpus)
    assert all(gpu.engine.closed for gpu in gpus)

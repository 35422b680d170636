"""The checks of the CUDA layer: they pass on a simulated GPU, and fail where an engine or a backend goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modernrank import BackendError
from modernrank.backends.cuda.api import Bytes, CaptureError
from modernrank.backends.profiles import SLOTS
from modernrank.backends.tensorrt.library import DeviceContext
from modernrank.benchmarks.gpu import cuda_checks
from modernrank.benchmarks.gpu.cuda_checks import CHECKS
from modernrank.benchmarks.gpu.cuda_step import main, recorded, run_checks
from modernrank.benchmarks.gpu.exact_engine import PROFILES, SHAPE_BYTES, DeviceEngine, Gpu, hashed, summed
from support.fake_gpu import FakeCuda


class CapturingCuda(FakeCuda):
    """A fake that forbids in a capture what CUDA forbids."""

    def __init__(self) -> None:
        super().__init__()
        self._capturing = threading.local()

    def allocate(self, size: int) -> int:
        self._forbid("cudaMalloc")
        return super().allocate(size)

    def synchronize(self, stream: int) -> None:
        self._forbid("cudaStreamSynchronize")
        super().synchronize(stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        self._capturing.yes = True
        try:
            return super().capture(stream, work)
        except BackendError as error:
            self.streams[stream].clear()
            raise CaptureError(str(error)) from error
        finally:
            self._capturing.yes = False

    def _forbid(self, what: str) -> None:
        if getattr(self._capturing, "yes", False):
            raise BackendError(f"{what} failed: the stream is captured")


class NumpyEngine(DeviceEngine):
    """The engine of the checks on a fake GPU."""

    runtime, profiles, slots, captures_itself = "numpy", PROFILES, SLOTS, False

    def __init__(self, cuda: FakeCuda, shape_in_context: bool, wrong: int = 0) -> None:
        self.cuda, self.shape_in_context, self.wrong = cuda, shape_in_context, wrong
        self.pinned: list[Bytes] = []

    def scratch(self, profile: int) -> int:
        return SHAPE_BYTES + 4 * self.profiles[profile].rows[2] * self.profiles[profile].tokens[2]

    def context(self, profile: int, scratch: int, size: int, stream: int) -> DeviceContext:
        assert self.cuda.device[scratch].size >= size >= self.scratch(profile)
        self.pinned.append(self.cuda.pinned(8))
        return NumpyContext(self, scratch, self.pinned[-1])

    def close(self) -> None:
        while self.pinned:
            self.cuda.free_pinned(self.pinned.pop())


class NumpyContext(DeviceContext):
    """Hashes go through the scratch memory, as in the kernels."""

    def __init__(self, engine: NumpyEngine, scratch: int, shape: Bytes) -> None:
        self.engine, self.scratch, self.shape = engine, scratch, shape
        self.inputs: dict[str, int] = {}

    def set_input(self, name: str, address: int, shape: tuple[int, ...]) -> None:
        self.inputs[name] = address
        if name != "slots":
            self.shape.view(np.int32)[:] = shape

    def set_output(self, name: str, address: int) -> None:
        self.inputs[name] = address

    def enqueue(self, stream: int) -> None:
        cuda, addresses, now = self.engine.cuda, dict(self.inputs), self.shape.view(np.int32).tolist()
        if self.engine.shape_in_context:
            cuda.to_device(self.scratch, self.shape, stream)

        def shape() -> tuple[int, int]:
            rows, tokens = cuda.device[self.scratch][:8].view(np.int32) if self.engine.shape_in_context else now
            return rows, tokens

        def tokens_of(name: str) -> np.ndarray:
            rows, tokens = shape()
            return cuda.device[addresses[name]][: 4 * rows * tokens].view(np.int32).reshape(rows, tokens)

        def hashes() -> np.ndarray:
            rows, tokens = shape()
            used = cuda.device[self.scratch][SHAPE_BYTES : SHAPE_BYTES + 4 * rows * tokens]
            return used.view(np.int32).reshape(rows, tokens)

        def hash_tokens() -> None:
            hashes()[:] = hashed(tokens_of("input_ids"), tokens_of("position_ids"))

        def sum_slots() -> None:
            assert cuda.device[addresses["slots"]].view(np.int32).tolist() == list(range(1, SLOTS + 1))
            logits = summed(hashes(), tokens_of("segment_ids"), SLOTS) + np.float32(self.engine.wrong)
            cuda.device[addresses["logits"]][: logits.nbytes] = logits.reshape(-1).view(np.uint8)

        cuda.enqueue(stream, hash_tokens)
        cuda.enqueue(stream, sum_slots)

    def can_capture(self, stream: int) -> bool:
        return True


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(cuda_checks, "CLOSINGS", 2)
    monkeypatch.setattr(cuda_checks, "LATENCY_RUNS", 10)
    monkeypatch.setattr(cuda_checks, "SECONDS_UNTIL_AN_ANSWER", 1)
    monkeypatch.setattr(cuda_checks, "LEAK", 0)  # a fake driver keeps nothing
    return CapturingCuda()


def gpu_of(cuda: FakeCuda, wrong: int = 0) -> Gpu:
    return Gpu(cuda, lambda shape_in_context: NumpyEngine(cuda, shape_in_context, wrong), lambda: "", cuda)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_passes_and_gives_everything_back(cuda: FakeCuda, name: str) -> None:
    record = recorded(name, lambda: CHECKS[name](gpu_of(cuda)))
    assert record["passed"], record["details"]["traceback"]
    assert cuda.everything_is_given_back


def test_wrong_answers_fail_and_the_checks_go_on(cuda: FakeCuda) -> None:
    records = {record["name"]: record for record in run_checks(gpu_of(cuda, wrong=1))}
    assert set(records) == set(CHECKS)
    assert records["methods"]["passed"]  # it runs no engine
    for name in ("threads", "graphs", "callers-stream", "closing-under-load", "out-of-memory", "latency"):
        assert not records[name]["passed"]
        assert records[name]["details"]["error"].startswith("AssertionError")


def test_memory_that_is_lost_is_seen(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    def free(address: int) -> None:
        kept.append(cuda.device[address])
        if len(kept) % 8:
            FakeCuda.free(cuda, address)

    monkeypatch.setattr(cuda, "free", free)
    record = recorded("closing-under-load", lambda: CHECKS["closing-under-load"](gpu_of(cuda)))
    assert not record["passed"]


def test_a_machine_without_a_gpu_fails_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "result.json"), "--device", "1000000"]) == 1
    assert (tmp_path / "result.json").is_file()
    assert "open-and-close" in capsys.readouterr().err

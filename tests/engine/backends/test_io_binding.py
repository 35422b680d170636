"""Runs on bound buffers, on the processor: the same logits as without, whatever shapes come in whatever order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from modernrank import ClosedError
from modernrank.backends.onnxruntime.capture_gate import GATE
from modernrank.backends.onnxruntime.io_binding import MAX_CUDA_GRAPHS, MAX_SHAPES, SETTLING_RUNS, IoBindingRunner
from modernrank.backends.onnxruntime.loading import packed_inputs
from modernrank.backends.profiles import SLOTS, default_profiles, rounded
from modernrank.batching.batch import Batch, PlannedBatch, assemble

SHORT = default_profiles(8192)[0]


@pytest.fixture(scope="module")
def session(artifacts: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(artifacts / "tiny" / "model.fp32.onnx"), providers=["CPUExecutionProvider"])


def batch(rows: int, tokens: int, seed: int = 0) -> Batch:
    ids = np.random.default_rng(seed).integers(5, 500, (rows, tokens))
    return assemble(PlannedBatch(tuple((row,) for row in range(rows)), tokens), list(ids), 0)


@pytest.mark.parametrize("graphs", [False, True])
def test_shapes_that_recur_give_the_logits_of_their_own_inputs(session: ort.InferenceSession, graphs: bool) -> None:
    bound = IoBindingRunner(ort, session, 1, "cpu", cuda_graphs=graphs)
    results = []
    for seed, (rows, tokens) in enumerate([(1, 64), (3, 100), (1, 64), (2, 200), (3, 128), (1, 64)]):
        feeds = packed_inputs(batch(rows, tokens, seed).padded(*rounded(SHORT, rows, tokens), SLOTS))
        results.append((bound.run(feeds), session.run(None, feeds)[0]))
    for logits, expected in results:  # after all runs: a result is not overwritten by the next
        np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("graphs", [False, True])
def test_more_shapes_than_are_kept_give_the_same_logits(session: ort.InferenceSession, graphs: bool) -> None:
    bound = IoBindingRunner(ort, session, 1, "cpu", cuda_graphs=graphs)
    shapes = MAX_SHAPES + MAX_CUDA_GRAPHS + 2
    for tokens in [*range(3, 3 + shapes), 3, shapes]:
        feeds = packed_inputs(batch(1, tokens, tokens))
        np.testing.assert_array_equal(bound.run(feeds), session.run(None, feeds)[0])


def test_threads_do_not_mix_their_inputs(session: ort.InferenceSession) -> None:
    bound = IoBindingRunner(ort, session, 1, "cpu")
    feeds_of_all = [packed_inputs(batch(2, 64, seed)) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(bound.run, feeds_of_all))
    for feeds, logits in zip(feeds_of_all, results, strict=True):
        np.testing.assert_array_equal(logits, session.run(None, feeds)[0])


@pytest.mark.parametrize("graphs", [False, True])
def test_a_run_that_fails_leaves_the_next_ones_as_they_are(session: ort.InferenceSession, graphs: bool) -> None:
    bound = IoBindingRunner(ort, session, 1, "cpu", cuda_graphs=graphs)
    feeds = packed_inputs(batch(2, 64))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            bound.run(feeds | {"input_ids": feeds["input_ids"] + 10**6})
        np.testing.assert_array_equal(bound.run(feeds), session.run(None, feeds)[0])


def test_sessions_that_capture_at_once_do_not_wait_for_ever(session: ort.InferenceSession) -> None:
    runners = [IoBindingRunner(ort, session, 1, "cpu", cuda_graphs=graphs) for graphs in (True, True, False)]
    feeds_of_all = [packed_inputs(batch(1, tokens)) for tokens in range(3, 23)]
    with ThreadPoolExecutor(len(runners)) as pool:
        results = [[pool.submit(runner.run, feeds) for runner in runners] for feeds in feeds_of_all]
    for feeds, futures in zip(feeds_of_all, results, strict=True):
        for future in futures:
            np.testing.assert_array_equal(future.result(timeout=60), session.run(None, feeds)[0])


class Watched:
    """A session that notes who has passed the gate, and fails where it is told to."""

    def __init__(self, session: ort.InferenceSession, fails: tuple[str, ...] = ()) -> None:
        self.session, self.fails = session, fails
        self.runs: list[tuple[str, str]] = []  # the id of the CUDA graph, and how the gate was passed

    def get_outputs(self) -> list[ort.NodeArg]:
        return self.session.get_outputs()

    def io_binding(self) -> ort.IOBinding:
        return self.session.io_binding()

    def run_with_iobinding(self, binding: ort.IOBinding, options: ort.RunOptions | None) -> None:
        graph = "" if options is None else options.get_run_config_entry("gpu_graph_id")
        self.runs.append((graph, "alone" if GATE._alone else "shared" if GATE._inside else "outside"))
        if graph in self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.session.run_with_iobinding(binding, options)


def test_a_capture_is_alone_and_a_replay_is_not(session: ort.InferenceSession) -> None:
    watched = Watched(session)
    bound = IoBindingRunner(ort, watched, 1, "cpu", cuda_graphs=True)
    for _ in range(2):
        bound.run(packed_inputs(batch(1, 64)))
    bound.run(packed_inputs(batch(1, 128)))
    settling = [("-1", "alone")] * SETTLING_RUNS
    assert watched.runs == [*settling, ("0", "alone"), ("0", "shared"), *settling, ("1", "alone")]


def test_a_shape_that_cannot_be_captured_is_answered_without(session: ort.InferenceSession) -> None:
    watched = Watched(session, fails=("0",))
    bound = IoBindingRunner(ort, watched, 1, "cpu", cuda_graphs=True)
    feeds = packed_inputs(batch(1, 64))
    for _ in range(2):
        np.testing.assert_array_equal(bound.run(feeds), session.run(None, feeds)[0])
    assert [graph for graph, _ in watched.runs if graph == "0"] == ["0"]  # it is not tried again
    assert watched.runs[-2:] == [("-1", "shared")] * 2


def test_callers_do_not_mix_their_inputs_where_no_thread_can_be_started(
    session: ort.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the main thread has ended, say: each caller then does the work in its own thread."""
    bound = IoBindingRunner(ort, session, 1, "cpu")

    def refuse(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(bound._thread, "submit", refuse)
    feeds_of_all = [packed_inputs(batch(2, 64, seed)) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(bound.run, feeds_of_all))
    for feeds, logits in zip(feeds_of_all, results, strict=True):
        np.testing.assert_array_equal(logits, session.run(None, feeds)[0])


def test_a_closed_runner_refuses_what_had_passed_before(session: ort.InferenceSession) -> None:
    bound = IoBindingRunner(ort, session, 1, "cpu")
    bound.close()
    with pytest.raises(ClosedError):
        bound._run(packed_inputs(batch(1, 64)))

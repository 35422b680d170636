"""Runs on bound buffers, on the processor: the same logits as without, whatever shapes come in whatever order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from modernrank.backends.onnxruntime.io_binding import MAX_CUDA_GRAPHS, MAX_SHAPES, IoBindingRunner
from modernrank.backends.onnxruntime.loading import packed_inputs
from modernrank.backends.onnxruntime.provider_options import padded_to_profile
from modernrank.backends.profiles import default_profiles
from modernrank.batching.batch import Batch, PlannedBatch, assemble

PROFILES = default_profiles(8192)


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
        feeds = packed_inputs(padded_to_profile(batch(rows, tokens, seed), PROFILES))
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

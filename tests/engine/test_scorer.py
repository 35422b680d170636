"""``Scorer``: token ids in, logits out; equal ones are scored once; what it reports and what it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modernrank import (
    BackendError,
    ClosedError,
    CpuOptions,
    InputError,
    LoadOptions,
    Reranker,
    Scorer,
)
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from support.backends import NotANumber, Recording
from support.checkpoints import golden
from support.scoring import scorer_of

TWO_THREADS = LoadOptions(provider="cpu", cpu=CpuOptions(threads=2))
LENGTHS = (3, 60, 9, 9, 31, 200, 5)


def made_up_ids() -> list[np.ndarray]:
    """Token ids of pairs of LENGTHS."""
    rng = np.random.default_rng(0)
    return [rng.integers(5, 500, length) for length in LENGTHS]


@pytest.fixture(scope="module")
def artifact_of_tiny(artifacts: Path) -> Artifact:
    return Artifact.open(artifacts / "tiny")


@pytest.fixture(scope="module")
def scorer(artifact_of_tiny: Artifact) -> Iterator[Scorer]:
    with Scorer.load(artifact_of_tiny, TWO_THREADS) as loaded:
        yield loaded


@pytest.fixture
def recording(artifact_of_tiny: Artifact) -> Recording:
    return Recording(open_backend(artifact_of_tiny, TWO_THREADS))


@pytest.mark.parametrize("name", ["tiny", "tiny-cls"])
def test_logits_are_those_of_transformers(artifacts: Path, name: str) -> None:
    known = golden(name)
    with Scorer.load(artifacts / name) as scorer:
        logits = scorer.score([np.array(ids) for ids in known["input_ids"]])
    assert logits.dtype == np.float32
    assert logits == pytest.approx(np.array(known["logits"], np.float32), abs=1e-5)


def test_a_folder_and_its_opened_artifact_score_the_same(artifacts: Path, scorer: Scorer) -> None:
    with Scorer.load(str(artifacts / "tiny")) as loaded:
        assert np.array_equal(loaded.score(made_up_ids()), scorer.score(made_up_ids()))


def test_each_pair_scores_as_it_does_alone(scorer: Scorer) -> None:
    together = scorer.score(made_up_ids())
    alone = np.concatenate([scorer.score([ids]) for ids in made_up_ids()])
    assert together.shape == (len(LENGTHS), 1)
    assert np.array_equal(together, alone)


def test_integers_of_other_widths_and_strides_are_taken(scorer: Scorer) -> None:
    ids = made_up_ids()
    expected = scorer.score(ids)
    assert np.array_equal(scorer.score([array.astype(np.int32) for array in ids]), expected)
    assert np.array_equal(scorer.score([np.repeat(array, 2)[::2] for array in ids]), expected)


def test_equal_ids_are_scored_once(artifact_of_tiny: Artifact, recording: Recording) -> None:
    ids = made_up_ids()
    with scorer_of(artifact_of_tiny, recording) as scorer:
        logits = scorer.score([*ids, *ids[::-1], ids[0].copy()])
    assert recording.pairs == len(ids)
    assert np.array_equal(logits[: len(ids)], logits[len(ids) : -1][::-1])
    assert logits[-1] == logits[0]


def test_no_pairs_run_nothing(artifacts: Path, recording: Recording, artifact_of_tiny: Artifact) -> None:
    with scorer_of(artifact_of_tiny, recording) as scorer:
        assert scorer.score([]).shape == (0, 1)
    assert recording.batches == []
    with Scorer.load(artifacts / "tiny-cls") as several_labels:
        assert several_labels.score([]).shape == (0, 3)


@pytest.mark.parametrize(
    "ids", [np.array([], np.int64), np.ones((1, 3), np.int64), np.ones(3), np.array(["a"]), np.ones(8193, np.int64)],
    ids=["empty", "2-D", "floats", "strings", "too long"],
)  # fmt: skip
def test_what_is_no_array_of_token_ids_is_refused_by_its_index(scorer: Scorer, ids: np.ndarray) -> None:
    with pytest.raises(InputError) as caught:
        scorer.score([*made_up_ids(), ids])
    assert caught.value.details == {"index": len(LENGTHS), "limit": 8192}


@pytest.mark.parametrize("token", [-1, 512, 10**6])
def test_ids_outside_the_vocabulary_are_refused(scorer: Scorer, token: int) -> None:
    with pytest.raises(InputError, match=str(token)) as caught:
        scorer.score([np.array([1, 2, token])])
    assert caught.value.details["limit"] == 511


def test_the_plan_of_lengths_is_what_runs(artifact_of_tiny: Artifact, recording: Recording) -> None:
    with scorer_of(artifact_of_tiny, recording) as scorer:
        plan = scorer.plan(LENGTHS)
        assert recording.batches == []
        scorer.score(made_up_ids())
    assert plan.pair_tokens == sum(LENGTHS)
    shapes = sorted((len(batch.rows), batch.width) for batch in plan.batches)
    assert sorted(batch.input_ids.shape for batch in recording.batches) == shapes
    assert recording.shares.count(False) == len(plan.schedule.alone)


def test_nothing_is_padded_on_the_processor(scorer: Scorer) -> None:
    assert scorer.plan(LENGTHS).computed_tokens == sum(LENGTHS)


def test_logits_that_are_not_numbers_are_an_error(artifact_of_tiny: Artifact) -> None:
    backend = NotANumber(open_backend(artifact_of_tiny, TWO_THREADS))
    ids = made_up_ids()
    with scorer_of(artifact_of_tiny, backend) as scorer, pytest.raises(BackendError, match="fp32 on cpu") as caught:
        scorer.score([*ids, *ids])
    assert caught.value.details["pairs"] == len(ids)


def test_after_an_error_of_the_backend_the_next_call_works(artifact_of_tiny: Artifact, recording: Recording) -> None:
    with scorer_of(artifact_of_tiny, recording) as scorer:
        recording.fail_next = True
        with pytest.raises(BackendError):
            scorer.score(made_up_ids())
        expected = np.concatenate([scorer.score([ids]) for ids in made_up_ids()])
        assert np.array_equal(scorer.score(made_up_ids()), expected)


def test_many_callers_get_their_own_logits(scorer: Scorer) -> None:
    ids = made_up_ids()
    expected = scorer.score(ids)
    with ThreadPoolExecutor(8) as callers:
        parts = list(callers.map(lambda i: scorer.score(ids[i % 5 : i % 5 + 2]), range(40)))
    for i, part in enumerate(parts):
        assert np.array_equal(part, expected[i % 5 : i % 5 + 2])


def test_warmup_runs_each_length_with_all_threads_and_side_by_side(
    artifact_of_tiny: Artifact, recording: Recording
) -> None:
    with scorer_of(artifact_of_tiny, recording) as scorer:
        scorer.warmup([5, np.int64(9), 5])  # type: ignore[list-item]
        shapes = [batch.input_ids.shape for batch in recording.batches]
        with pytest.raises(InputError) as caught:
            scorer.warmup([0])
    runs = set(zip(shapes, recording.shares, strict=True))
    assert runs == {((1, tokens), share) for tokens in (5, 9) for share in (False, True)}
    assert caught.value.details["value"] == 0


def test_warmup_cuts_lengths_to_the_model(artifacts: Path) -> None:
    with Scorer.load(artifacts / "tiny", LoadOptions(cpu=CpuOptions(threads=1))) as scorer:
        scorer.warmup([10**9])


def test_a_closed_scorer_refuses_work(artifact_of_tiny: Artifact, recording: Recording) -> None:
    scorer = scorer_of(artifact_of_tiny, recording)
    scorer.close()
    scorer.close()
    assert recording.closed == 1
    for use in (lambda: scorer.score([]), lambda: scorer.plan([3]), scorer.warmup, lambda: scorer.info):
        with pytest.raises(ClosedError):
            use()


def test_the_end_of_a_with_block_closes(artifact_of_tiny: Artifact, recording: Recording) -> None:
    with scorer_of(artifact_of_tiny, recording):
        pass
    assert recording.closed == 1


def test_its_representation_names_what_runs(scorer: Scorer, artifacts: Path) -> None:
    assert repr(scorer) == "Scorer(fp32 on cpu, 2 threads)"
    with Scorer.load(artifacts / "tiny", LoadOptions(cpu=CpuOptions(threads=1))) as single:
        assert repr(single) == "Scorer(fp32 on cpu, 1 thread)"
    assert repr(single) == "Scorer(closed)"


@pytest.mark.parametrize("clone", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [Scorer, Reranker])
def test_a_model_is_never_copied_or_pickled(artifacts: Path, kind: type, clone: Callable[[object], object]) -> None:
    with kind.load(artifacts / "tiny") as model, pytest.raises(TypeError, match=rf"{kind.__name__} .*\bload\b"):
        clone(model)

"""Activations in float32 and without overflow; ``"model"`` is the one that the artifact records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError, Reranker
from modernrank.activations import ACTIVATIONS, activate, sigmoid, softmax
from support.artifacts import edit_manifest

QUERY = "the terms of the license"
PAIRS = [(QUERY, document) for document in ("a", "derivative works", "notice " * 30)]
LOGITS = st.lists(st.floats(-1000, 1000, width=32), min_size=2, max_size=8).map(lambda x: np.array([x], np.float32))


@given(LOGITS)
@pytest.mark.parametrize("activation", [sigmoid, softmax])
def test_both_stay_finite_in_range_and_in_order(activation: Any, logits: np.ndarray) -> None:
    result = activation(logits)
    assert result.dtype == np.float32
    assert ((result >= 0) & (result <= 1)).all()
    order = np.argsort(logits[0], kind="stable")
    assert (np.diff(result[0][order]) >= 0).all()


@given(LOGITS)
def test_softmax_sums_to_1(logits: np.ndarray) -> None:
    assert abs(float(softmax(logits).sum()) - 1) < 1e-5


def test_scores_that_float16_would_tie_stay_apart() -> None:
    close = np.array([[7.001], [7.002]], np.float32)
    assert np.unique(sigmoid(close)).size == 2
    assert np.unique(sigmoid(close).astype(np.float16)).size == 1


def test_logit_changes_nothing() -> None:
    logits = np.array([[-3.5, 2.0]], np.float32)
    assert activate("logit", logits).tolist() == logits.tolist()


def test_scores_are_activated_logits(reranker: Reranker) -> None:
    logits = reranker.score(PAIRS)
    expected = 1 / (1 + np.exp(-logits))
    assert reranker.score(PAIRS, activation="sigmoid") == pytest.approx(expected, abs=1e-6)
    assert list(reranker.score_iter(PAIRS, activation="sigmoid")) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", ["score", "score_iter"])
def test_an_unknown_activation_is_refused_at_once(reranker: Reranker, method: str) -> None:
    with pytest.raises(InputError) as caught:
        getattr(reranker, method)(PAIRS, activation="tanh")
    assert caught.value.details["value"] == "tanh"
    assert caught.value.details["choices"] == ("logit", "sigmoid", "softmax", "model")


def test_softmax_over_one_label_is_refused(reranker: Reranker) -> None:
    with pytest.raises(InputError) as caught:
        reranker.score(PAIRS, activation="softmax")
    assert caught.value.details["argument"] == "activation"


def test_softmax_is_over_the_labels_of_a_pair(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny-cls", threads=1) as reranker:
        shares = reranker.score(PAIRS, activation="softmax")
    assert shares.shape == (3, 3)
    assert shares.sum(axis=1) == pytest.approx(np.ones(3))


@pytest.mark.parametrize("recorded", ["logit", "sigmoid"])
def test_model_takes_what_the_artifact_records(artifact: Path, reranker: Reranker, recorded: Any) -> None:
    edit_manifest(artifact, lambda manifest: manifest["model"].update(activation=recorded))
    expected = reranker.score(PAIRS, activation=recorded).tolist()
    with Reranker.load(artifact, threads=1) as recording:
        assert recording.score(PAIRS, activation="model").tolist() == expected
        assert [float(score) for score in recording.score_iter(PAIRS, activation="model")] == expected
        ranking = recording.rank(QUERY, [document for _, document in PAIRS], activation="model")
    assert [place.score for place in ranking] == sorted(expected, reverse=True)


@pytest.mark.parametrize("recorded", ["tanh", ""])
def test_model_is_refused_where_the_artifact_records_none_that_is_known(artifact: Path, recorded: str) -> None:
    edit_manifest(artifact, lambda manifest: manifest["model"].update(activation=recorded))
    with Reranker.load(artifact, threads=1) as reranker:
        with pytest.raises(InputError) as caught:
            reranker.score(PAIRS, activation="model")
        assert reranker.score(PAIRS, activation="sigmoid").shape == (3,)
    assert caught.value.details["value"] == recorded
    assert caught.value.details["choices"] == tuple(ACTIVATIONS)


def test_model_is_refused_where_the_artifact_has_no_such_field(artifact: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest["model"].pop("activation", None))
    with Reranker.load(artifact, threads=1) as reranker, pytest.raises(InputError) as caught:
        reranker.score(PAIRS, activation="model")
    assert caught.value.details["argument"] == "activation"


def test_a_recorded_softmax_over_one_label_is_refused_like_one_that_is_asked_for(artifact: Path) -> None:
    """Every score would be 1."""
    edit_manifest(artifact, lambda manifest: manifest["model"].update(activation="softmax"))
    with Reranker.load(artifact, threads=1) as reranker:
        for activation in ("softmax", "model"):
            with pytest.raises(InputError) as caught:
                reranker.score(PAIRS, activation=activation)  # type: ignore[arg-type]
            assert caught.value.details["argument"] == "activation"

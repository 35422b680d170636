"""Sigmoid and softmax, in float32 and without overflow."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modernrank.activations import sigmoid, softmax

LOGITS = st.lists(st.floats(-1000, 1000, width=32), min_size=2, max_size=8).map(lambda x: np.array([x], np.float32))


@given(LOGITS)
def test_both_stay_finite_in_range_and_in_order(logits: np.ndarray) -> None:
    for activation in (sigmoid, softmax):
        result = activation(logits)
        assert result.dtype == np.float32 and ((result >= 0) & (result <= 1)).all()
        order = np.argsort(logits[0], kind="stable")
        assert (np.diff(result[0][order]) >= 0).all()
    assert abs(float(softmax(logits).sum()) - 1) < 1e-5


def test_scores_that_float16_would_tie_stay_apart() -> None:
    close = np.array([[7.001], [7.002]], np.float32)
    assert np.unique(sigmoid(close)).size == 2
    assert np.unique(sigmoid(close).astype(np.float16)).size == 1

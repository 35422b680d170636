"""Estimates of what runs take: exact for what follows the formula, close beside noise, never negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank.batching.batch import PlannedBatch
from modernrank.queue.cost import CostModel, Load


def load(rows: int, width: int) -> Load:
    return Load.of(PlannedBatch(tuple((row,) for row in range(rows)), width))


def test_there_is_no_estimate_before_the_first_run() -> None:
    assert CostModel().seconds(load(1, 9)) is None
    assert CostModel().error is None


@given(st.floats(0, 0.01), st.floats(1e-6, 1e-3), st.floats(0, 1e-7))
def test_it_learns_the_coefficients(per_run: float, per_token: float, per_product: float) -> None:
    costs = CostModel()

    def seconds(shape: Load) -> float:
        return per_run + per_token * shape.tokens + per_product * shape.products

    shapes = [load(rows, width) for width in (16, 100, 512, 4096) for rows in (1, 2, 4)]
    for _ in range(20):
        for shape in shapes:
            costs.observe(shape, seconds(shape))
    for shape in [*shapes, load(3, 1000)]:
        assert costs.seconds(shape) == pytest.approx(seconds(shape), rel=0.02)


def test_runs_of_one_shape_are_put_down_to_their_tokens() -> None:
    costs = CostModel()
    for _ in range(10):
        costs.observe(load(2, 100), 0.2)
    assert costs.seconds(load(1, 100)) == pytest.approx(0.1)


def test_it_follows_a_machine_that_becomes_slower() -> None:
    costs = CostModel()
    for factor in (1, 3):
        for _ in range(3000):
            costs.observe(load(1, 100), 0.1 * factor)
    assert costs.seconds(load(1, 100)) == pytest.approx(0.3, rel=0.1)


def test_noise_makes_no_estimate_negative_and_is_reported() -> None:
    rng = np.random.default_rng(0)
    costs = CostModel()
    for _ in range(300):
        shape = load(int(rng.integers(1, 5)), int(rng.integers(10, 3000)))
        costs.observe(shape, shape.tokens * 1e-4 * float(rng.uniform(0.5, 1.5)))
    estimates = [costs.seconds(load(rows, width)) for rows in (1, 4) for width in (1, 10, 100, 8192)]
    assert all(estimate is not None and estimate >= 0 for estimate in estimates)
    assert costs.error is not None and 0.1 < costs.error < 0.6

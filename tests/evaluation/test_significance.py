"""Intervals and the paired test are right on samples of known distribution, and undefined for a single query."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from modernrank.evaluation.significance import Estimate, Values, estimate, paired_p_value


@pytest.fixture
def values() -> Values:
    return np.random.default_rng(0).random(200)


def test_an_interval_is_that_of_the_normal_approximation(values: Values) -> None:
    found = estimate(values)
    half = 1.96 * values.std() / np.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, rel=0.01)
    assert found.high == pytest.approx(values.mean() + half, rel=0.01)


def test_an_interval_is_the_same_in_every_run(values: Values) -> None:
    assert estimate(values) == estimate(values)


def test_equal_values_have_an_interval_without_width() -> None:
    assert estimate(np.full(5, 0.25)) == Estimate(0.25, 0.25, 0.25)


def test_a_single_query_has_no_interval() -> None:
    assert estimate(np.array([0.25])) == Estimate(0.25, None, None)


def test_a_clear_gain_is_significant(values: Values) -> None:
    noise = np.random.default_rng(1).standard_normal(200)
    p_value = paired_p_value(values, np.minimum(1, values + 0.05 + 0.02 * noise))
    assert p_value is not None
    assert p_value < 0.001


def test_a_shuffle_is_not_significant(values: Values) -> None:
    p_value = paired_p_value(values, np.random.default_rng(1).permutation(values))
    assert p_value is not None
    assert p_value > 0.01


def test_equal_values_are_not_significant(values: Values) -> None:
    assert paired_p_value(values, values.copy()) == 1.0


def test_a_single_query_has_no_p_value() -> None:
    assert paired_p_value(np.array([0.1]), np.array([0.9])) is None


def test_importing_metrics_and_agreement_does_not_import_scipy() -> None:
    code = (
        "import json, sys, modernrank.evaluation.agreement, modernrank.evaluation.metrics; "
        "print(json.dumps([name for name in sys.modules if name.startswith('scipy')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []

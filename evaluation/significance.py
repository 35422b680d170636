"""Confidence intervals of a mean over queries, and a paired test of two means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
BATCH = 200  # resamples that are drawn together: some megabytes for thousands of queries
CONFIDENCE = 0.95
SEED = 20240

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and its confidence interval; ``low`` and ``high`` are None for a single query."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        interval = "-" if self.low is None else f"[{self.low:.4f}, {self.high:.4f}]"
        return f"{self.mean:.4f} {interval}"


def estimate(values: Values) -> Estimate:
    """The mean over queries and its percentile bootstrap interval (Sakai, 2006).

    Args:
        values: one for each query, float64 ``[queries]``.

    >>> str(estimate(np.ones(3)))
    '1.0000 [1.0000, 1.0000]'
    >>> str(estimate(np.ones(1)))
    '1.0000 -'
    """
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, None, None)
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean)
    from scipy.stats import bootstrap  # slow to import, and only this needs it

    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))


def paired_p_value(before: Values, after: Values) -> float | None:
    """The p value of a two-sided randomisation test of the means (Smucker, Allan and Carterette, 2007).

    Args:
        before: one value for each query, float64 ``[queries]``.
        after: the values of the same queries in the same order.

    Returns:
        1 where all values are equal, and None for a single query, for which no test is possible.

    >>> paired_p_value(np.array([0.5, 0.25]), np.array([0.5, 0.25]))
    1.0
    """
    if len(before) < 2:
        return None
    if np.array_equal(before, after):
        return 1.0
    from scipy.stats import permutation_test  # slow to import, and only this needs it

    test = permutation_test(
        (before, after),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(SEED),
    )
    return float(test.pvalue)

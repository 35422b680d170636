"""Compare two results: which measurements became faster or slower by more than noise explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .result import Measurement, Result

RESAMPLES = 2000
CONFIDENCE = 0.95
MIN_SAMPLES = 5


Verdict = Literal["faster", "slower", "the same", "too few samples"]


@dataclass(frozen=True)
class Change:
    """One measurement that both results have.

    ratio:     the new median divided by the old one.
    low, high: the confidence interval of the ratio.
    """

    before: Measurement
    after: Measurement
    ratio: float
    low: float
    high: float
    verdict: Verdict

    def __str__(self) -> str:
        what = ", ".join([self.after.contender, self.after.scenario, self.after.workload])
        parameters = " ".join(f"{name} {value}" for name, value in self.after.parameters.items())
        return (
            f"{self.verdict:>15}  {what}{f' ({parameters})' if parameters else ''}: "
            f"{self.before.median * 1e3:,.1f} ms -> {self.after.median * 1e3:,.1f} ms, "
            f"{self.ratio - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"
        )


@dataclass(frozen=True)
class Comparison:
    """All changes, and a line for each measurement that failed or that only one result has."""

    changes: list[Change]
    unmatched: list[str]

    @property
    def slower(self) -> bool:
        """Whether at least one measurement became slower."""
        return any(change.verdict == "slower" for change in self.changes)


def compare(before: Result, after: Result, threshold: float, seed: int = 0) -> Comparison:
    """Match measurements by contender, scenario, workload and parameters, and judge the ratio of their medians.

    A measurement became faster or slower if the whole confidence interval of the ratio lies beyond ``threshold``. The
    interval is the bootstrap's, by the percentile method (Efron and Tibshirani, An Introduction to the Bootstrap,
    chapter 13). With fewer than MIN_SAMPLES samples on one side there is no judgement.

    Args:
        before: the old result.
        after: the new result.
        threshold: share of the old median that a change must exceed: 0.05 for 5 %.
        seed: of the bootstrap.

    >>> old, new = ([Measurement("a", "query", "b", seconds=[s] * 5)] for s in (1.0, 2.0))
    >>> compare(Result({}, old), Result({}, new), threshold=0.05).slower
    True
    """
    old = {m.key: m for m in before.measurements if not m.error}
    new = {m.key: m for m in after.measurements if not m.error}
    failed = [f"{m.contender} on {m.workload} failed: {m.error}" for m in after.measurements if m.error]
    unmatched = [f"only before: {' '.join(key)}" for key in old if key not in new]
    unmatched += [f"only after: {' '.join(key)}" for key in new if key not in old]
    random = np.random.default_rng(seed)
    changes = [_change(old[key], new[key], threshold, random) for key in old if key in new]
    return Comparison(changes, failed + unmatched)


def _change(before: Measurement, after: Measurement, threshold: float, random: np.random.Generator) -> Change:
    ratios = _medians(after.seconds, random) / _medians(before.seconds, random)
    low, high = (float(q) for q in np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    verdict: Verdict = "the same"
    if min(len(before.seconds), len(after.seconds)) < MIN_SAMPLES:
        verdict = "too few samples"
    elif low > 1 + threshold:
        verdict = "slower"
    elif high < 1 - threshold:
        verdict = "faster"
    return Change(before, after, after.median / before.median, low, high, verdict)


def _medians(seconds: list[float], random: np.random.Generator) -> np.ndarray:
    """Medians of RESAMPLES bootstrap samples, seconds, float64 ``[RESAMPLES]``."""
    return np.asarray(np.median(random.choice(seconds, (RESAMPLES, len(seconds))), axis=1))

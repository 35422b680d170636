"""Say what got faster or slower between two results, beyond what noise explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .result import Measurement, Result

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST_SAMPLES = 5


@dataclass(frozen=True)
class Change:
    """One measurement in both results. ``ratio`` is the new median over the old; ``low`` to ``high`` its interval."""

    before: Measurement
    after: Measurement
    ratio: float
    low: float
    high: float
    verdict: str

    def __str__(self) -> str:
        what = ", ".join([self.after.contender, self.after.scenario, self.after.workload])
        parameters = " ".join(f"{name} {value}" for name, value in self.after.parameters.items())
        return (
            f"{self.verdict:>10}  {what}{f' ({parameters})' if parameters else ''}: "
            f"{self.before.median * 1e3:,.1f} ms -> {self.after.median * 1e3:,.1f} ms, "
            f"{self.ratio - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"
        )


@dataclass(frozen=True)
class Comparison:
    """All changes, and what only one of the results holds or could measure."""

    changes: list[Change]
    unmatched: list[str]

    @property
    def slower(self) -> bool:
        """Whether anything is."""
        return any(change.verdict == "slower" for change in self.changes)


def compare(before: Result, after: Result, threshold: float, seed: int = 0) -> Comparison:
    """Match by contender, scenario, workload and parameters, and judge each pair of medians.

    A change counts when the bootstrap interval of the ratio of the medians (percentile method, 95 %) lies wholly
    beyond ``threshold`` (0.05 for 5 %); below FEWEST_SAMPLES samples on either side nothing is judged.
    """
    old = {m.key: m for m in before.measurements if not m.error}
    new = {m.key: m for m in after.measurements if not m.error}
    failed = [f"{m.contender} on {m.workload} failed: {m.error}" for m in after.measurements if m.error]
    only = [f"only before: {' '.join(key)}" for key in old.keys() - new.keys()]
    only += [f"only after: {' '.join(key)}" for key in new.keys() - old.keys()]
    chance = np.random.default_rng(seed)
    return Comparison([_change(old[key], new[key], threshold, chance) for key in old if key in new], failed + only)


def _change(before: Measurement, after: Measurement, threshold: float, chance: np.random.Generator) -> Change:
    ratio = after.median / before.median
    few = min(len(before.seconds), len(after.seconds)) < FEWEST_SAMPLES
    ratios = _medians(after.seconds, chance) / _medians(before.seconds, chance)
    low, high = (float(q) for q in np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    if few:
        verdict = "too few"
    elif low > 1 + threshold:
        verdict = "slower"
    elif high < 1 - threshold:
        verdict = "faster"
    else:
        verdict = "the same"
    return Change(before, after, ratio, low, high, verdict)


def _medians(seconds: list[float], chance: np.random.Generator) -> np.ndarray:
    """Medians of RESAMPLES bootstrap samples."""
    return np.asarray(np.median(chance.choice(seconds, (RESAMPLES, len(seconds))), axis=1))

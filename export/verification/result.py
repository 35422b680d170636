"""The result of a verification: differences of logits by length and arrangement, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modernrank.evaluation.agreement import Fidelity
from modernrank.export.precision.registry import PRECISIONS, FidelityBounds

TOLERANCE = 1e-4  # maximum difference of a logit in an exact precision
# Each pair is alone in its batch, in one row with two others in every order, or in a row of its own in a padded batch.
ARRANGEMENTS = ("alone", "packed", "rows")


@dataclass(frozen=True)
class Row:
    """Differences of the logits of one pair length in one arrangement."""

    length: int
    arrangement: str
    largest: float
    rms: float


@dataclass(frozen=True)
class Parity:
    """The result of a verification; the manifest keeps ``as_json()``.

    In fp32 every logit must be within TOLERANCE. In other precisions the fidelity decides, by the precision's bounds.

    precision:  of the graph.
    rows:       the differences.
    scores_std: standard deviation of the exact logits.
    published:  source, largest difference and tolerance of each published result.
    against:    what ran the checkpoint.
    ran_on:     what ran the artifact.
    fidelity:   agreement on text pairs; None in fp32.
    files:      SHA-256 of each file of the graph.
    """

    precision: str
    rows: tuple[Row, ...]
    scores_std: float
    published: tuple[tuple[str, float, float], ...]
    against: str
    ran_on: str
    fidelity: Fidelity | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """Largest difference of a logit."""
        return float(np.max([row.largest for row in self.rows]))  # unlike max(), NaN if any is

    @property
    def rms(self) -> float:
        """Root mean square of the differences."""
        return float(np.sqrt(np.mean([row.rms**2 for row in self.rows])))

    @property
    def passed(self) -> bool:
        """Whether every difference is within its tolerance."""
        if self.fidelity is not None:
            bounds = self.bounds
            within = self.fidelity.rms <= bounds.rms and self.fidelity.top10 >= bounds.top10
            return within and bool(np.isfinite(self.largest))
        return self.largest <= TOLERANCE and all(difference <= allowed for _, difference, allowed in self.published)

    @property
    def bounds(self) -> FidelityBounds:
        """The bounds of a precision that is not exact.

        Raises:
            ValueError: it is exact, and has none.
        """
        bounds = PRECISIONS[self.precision].bounds
        if bounds is None:
            raise ValueError(f"{self.precision} is exact: every logit must agree")
        return bounds

    def verdict(self) -> str:
        """One line with the figures and their bounds."""
        longest = max(row.length for row in self.rows)
        if self.fidelity is not None:
            bounds = f"bounds: RMS at most {self.bounds.rms:.0%}, top ten at least {self.bounds.top10:.0%}"
            return f"{'agrees' if self.passed else 'DIFFERS'}: {self.fidelity}; {bounds}"
        text = f"largest difference {self.largest:.1e}, RMS {self.rms:.1e}, at most {TOLERANCE:.0e} allowed, "
        text += f"pairs of up to {longest:,} tokens {', '.join(dict.fromkeys(row.arrangement for row in self.rows))}"
        for source, difference, allowed in self.published:
            text += f"; {difference:.1e} from {source}, at most {allowed:.0e} allowed"
        return f"{'agrees' if self.passed else 'DIFFERS'}: {text}"

    def table(self) -> str:
        """Largest difference and RMS by pair length and arrangement."""
        cells = {(row.length, row.arrangement): f"{row.largest:.1e} / {row.rms:.1e}" for row in self.rows}
        lines = ["largest difference of a logit / RMS", f"{'tokens':>7}" + "".join(f"{a:>20}" for a in ARRANGEMENTS)]
        for length in dict.fromkeys(row.length for row in self.rows):
            lines.append(f"{length:>7}" + "".join(f"{cells.get((length, a), '-'):>20}" for a in ARRANGEMENTS))
        return "\n".join([*lines, self.verdict()])

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "verdict": self.verdict(),
            "passed": self.passed,
            "against": self.against,
            "ran_on": self.ran_on,
            "largest_difference": self.largest,
            "rms_difference": self.rms,
            "fidelity": self.fidelity and self.fidelity.as_json(),
            "scores_std": self.scores_std,
            "grid": [[row.length, row.arrangement, row.largest, row.rms] for row in self.rows],
            "published": [list(entry) for entry in self.published],
        }

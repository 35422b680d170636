"""What a verification found: differences of logits by length and arrangement, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modernrank.evaluation.agreement import Fidelity

TOLERANCE = 1e-4  # largest difference of a logit in fp32
# Of the others: largest RMS difference over the standard deviation of the scores, and least share of the top ten kept.
BOUNDS = {"fp16": (0.01, 0.95), "int8": (0.05, 0.9)}
# Each pair alone in its batch; with two others in one row, in every order; in a row of its own of a padded batch.
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
    """What a verification found; ``as_json`` is what the manifest keeps.

    In fp32 every logit must be within TOLERANCE. In fp16 and int8 the fidelity decides, which fp32 has no need of.
    ``against`` is what ran the checkpoint, ``ran_on`` what ran the artifact.
    """

    precision: str
    rows: tuple[Row, ...]
    scores_std: float
    published: tuple[tuple[str, float, float], ...]  # source, largest difference, tolerance
    against: str
    ran_on: str
    fidelity: Fidelity | None = None

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
            rms, top10 = BOUNDS[self.precision]
            return self.fidelity.rms <= rms and self.fidelity.top10 >= top10 and bool(np.isfinite(self.largest))
        return self.largest <= TOLERANCE and all(found <= allowed for _, found, allowed in self.published)

    def verdict(self) -> str:
        """One line: the figures and what they had to be."""
        longest = max(row.length for row in self.rows)
        if self.fidelity is not None:
            rms, top10 = BOUNDS[self.precision]
            bounds = f"at most {rms:.0%} and at least {top10:.0%} allowed"
            return f"{'agrees' if self.passed else 'DIFFERS'}: {self.fidelity}; {bounds}"
        text = f"largest difference {self.largest:.1e}, RMS {self.rms:.1e}, at most {TOLERANCE:.0e} allowed, "
        text += f"pairs of up to {longest:,} tokens {', '.join(dict.fromkeys(row.arrangement for row in self.rows))}"
        for source, found, allowed in self.published:
            text += f"; {found:.1e} from {source}, at most {allowed:.0e} allowed"
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

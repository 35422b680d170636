"""How long a run will take, learned from the runs before.

    seconds = a * runs + b * tokens + c * products,    products = tokens * width

``a`` is what a run takes whatever its size, ``b`` the matrix products, the norms and the sliding attention of a token,
``c`` the global attention, in which each token of a row meets all others: one product of a query and a key. The
coefficients are those of the least squares of relative errors over the recent runs; earlier runs fade.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modernrank.batching.batch import PlannedBatch

# The weight of an earlier run in the coefficients, for each run since: about the last two hundred count.
FADE = 0.995
# The weight of an earlier error in the reported one: about the last hundred runs count.
ERROR_FADE = 0.99
# The coefficients are computed again when the number of runs has grown by a quarter, at most after so many.
MAX_RUNS_BETWEEN = 100


@dataclass(slots=True)
class Load:
    """What a run, or several, compute: ``tokens`` with the padding, and ``products`` of queries and keys."""

    runs: int = 0
    tokens: int = 0
    products: int = 0

    @staticmethod
    def of(*batches: PlannedBatch) -> Load:
        """The load of batches."""
        load = Load()
        for batch in batches:
            load.add(batch)
        return load

    def add(self, batch: PlannedBatch, sign: int = 1) -> None:
        """Add the load of a batch; with ``sign`` -1 take it away."""
        tokens = sign * batch.tokens
        self.add_all(Load(sign, tokens, tokens * batch.width))

    def add_all(self, other: Load, sign: int = 1) -> None:
        """Add another load; with ``sign`` -1 take it away."""
        self.runs += sign * other.runs
        self.tokens += sign * other.tokens
        self.products += sign * other.products


class CostModel:
    """Learns what runs take. The caller holds a lock.

    >>> costs = CostModel()
    >>> costs.seconds(Load(1, 100, 10_000)) is None
    True
    >>> for tokens in (100, 200, 400, 100, 200):
    ...     costs.observe(Load(1, tokens, 100 * tokens), seconds=tokens / 1000)
    >>> round(costs.seconds(Load(1, 300, 30_000)), 3)
    0.3
    """

    def __init__(self) -> None:
        self.runs = 0
        self._products = [0.0] * 6  # of the terms of a run with each other: 00, 01, 02, 11, 12, 22
        self._sums = [0.0] * 3
        self._coefficients: tuple[float, float, float] | None = None
        self._next_fit = 1
        self._error = self._error_weight = 0.0

    @property
    def error(self) -> float | None:
        """The mean relative error of the estimates for recent runs, each made before its run; None before the first."""
        return self._error / self._error_weight if self._error_weight else None

    def observe(self, load: Load, seconds: float) -> None:
        """Learn from one run that took ``seconds``."""
        seconds = max(seconds, 1e-9)
        if (estimate := self.seconds(load)) is not None:
            self._error = ERROR_FADE * self._error + abs(estimate / seconds - 1)
            self._error_weight = ERROR_FADE * self._error_weight + 1
        x, y, z = 1 / seconds, load.tokens / seconds, load.products / seconds
        terms = (x * x, x * y, x * z, y * y, y * z, z * z)
        self._products = [FADE * old + new for old, new in zip(self._products, terms, strict=True)]
        self._sums = [FADE * old + new for old, new in zip(self._sums, (x, y, z), strict=True)]
        self.runs += 1
        if self.runs >= self._next_fit:
            self._next_fit = self.runs + min(max(1, self.runs // 4), MAX_RUNS_BETWEEN)
            xx, xy, xz, yy, yz, zz = self._products
            self._coefficients = _fit(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]), np.array(self._sums))

    def seconds(self, load: Load) -> float | None:
        """The estimate for one run or the sum of several; None before the first run."""
        if self._coefficients is None:
            return None
        per_run, per_token, per_product = self._coefficients
        return per_run * load.runs + per_token * load.tokens + per_product * load.products


def _fit(products: NDArray[np.float64], sums: NDArray[np.float64]) -> tuple[float, float, float]:
    """The coefficients of least squares among those that are not negative.

    With three unknowns every choice of those that are zero can be tried. Where runs of one shape leave the choice open,
    the time is put down to the tokens.
    """
    best, least = np.zeros(3), math.inf
    for count in (1, 2, 3):
        for chosen in itertools.combinations((1, 0, 2), count):  # the tokens first
            part = products[np.ix_(chosen, chosen)]
            if np.linalg.cond(part / np.sqrt(np.outer(np.diag(part), np.diag(part)))) > 1e6:
                continue
            coefficients = np.zeros(3)
            coefficients[list(chosen)] = np.linalg.solve(part, sums[list(chosen)])
            loss = float(coefficients @ products @ coefficients - 2 * coefficients @ sums)
            if (coefficients >= 0).all() and loss < least - 1e-6 * abs(least if math.isfinite(least) else 0.0):
                best, least = coefficients, loss
    return float(best[0]), float(best[1]), float(best[2])

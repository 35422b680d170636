"""What a precision costs: scores and rankings against those of ``transformers`` in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr

from modernrank.arrays import FloatArray
from modernrank.errors import InputError
from modernrank.text.checks import Pair

TOP = 10


@dataclass(frozen=True)
class Fidelity:
    """Agreement over groups of pairs that share a query; the rank figures are means over the queries.

    rms:      RMS difference of the scores over the standard deviation of the exact ones.
    spearman, kendall: rank correlations.
    top10:    share of the exact ten best that are among the ten best.
    """

    pairs: int
    queries: int
    rms: float
    spearman: float
    kendall: float
    top10: float

    def __str__(self) -> str:
        return (
            f"RMS {self.rms:.2%} of the scores' deviation, Spearman {self.spearman:.4f}, Kendall {self.kendall:.4f}, "
            f"{self.top10:.0%} of the top {TOP} kept, over {self.queries} queries with {self.pairs} pairs"
        )

    def as_json(self) -> dict[str, float]:
        """For the manifest."""
        return dataclasses.asdict(self)


def measure(pairs: list[Pair], exact: FloatArray, found: FloatArray) -> Fidelity:
    """Compare scores ``[pairs]``; only queries of at least three pairs with different scores are ranked.

    Args:
        pairs: (query, document) tuples.
        exact: what ``transformers`` gives.
        found: what the artifact gives.

    Raises:
        InputError: there is no such query.
    """
    groups: dict[str, list[int]] = {}
    for i, (query, _) in enumerate(pairs):
        groups.setdefault(query, []).append(i)
    ranked = [members for members in groups.values() if len(members) > 2 and np.ptp(exact[members]) > 0]
    if not ranked:
        raise InputError("no query has three or more documents with different scores: there are no orders to compare")
    top = [_top(exact[members]) & _top(found[members]) for members in ranked]
    sizes = [min(TOP, len(members)) for members in ranked]
    return Fidelity(
        pairs=len(pairs),
        queries=len(ranked),
        rms=float(np.sqrt(np.mean((found - exact) ** 2)) / exact.std()),
        spearman=float(np.mean([_correlation(spearmanr, exact[m], found[m]) for m in ranked])),
        kendall=float(np.mean([_correlation(kendalltau, exact[m], found[m]) for m in ranked])),
        top10=float(np.mean([len(kept) / size for kept, size in zip(top, sizes, strict=True)])),
    )


def _correlation(measure: Callable[..., Any], exact: FloatArray, found: FloatArray) -> float:
    """0 where all that was found is the same, for which there is none."""
    return float(measure(exact, found).statistic) if np.ptp(found) > 0 else 0.0


def _top(scores: FloatArray) -> set[int]:
    return set(np.argsort(-scores, kind="stable")[:TOP].tolist())

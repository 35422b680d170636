"""How far two scorings of the same pairs agree, such as int8 and float32: scores, orders, and the best documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.errors import InputError
from modernrank.text.checks import Pair

TOP = 10
MIN_DOCUMENTS = 3  # minimum for a query whose order is compared


@dataclass(frozen=True)
class Fidelity:
    """Agreement over pairs that are grouped by query; the rank figures are means over the queries.

    pairs:   number of pairs.
    queries: number of queries whose orders were compared.
    rms:     RMS difference of the scores, divided by the standard deviation of the exact scores.
    spearman, kendall: rank correlations.
    top10:   share of the ten best documents by exact score that stay among the ten best.
    """

    pairs: int
    queries: int
    rms: float
    spearman: float
    kendall: float
    top10: float

    def __str__(self) -> str:
        return (
            f"RMS difference {self.rms:.2%} of the scores' standard deviation, Spearman {self.spearman:.4f}, "
            f"Kendall {self.kendall:.4f}, {self.top10:.0%} of the top {TOP} kept, over {self.queries} queries with "
            f"{self.pairs} pairs"
        )

    def as_json(self) -> dict[str, float]:
        """The figures by name, as the manifest records them."""
        return dataclasses.asdict(self)


def measure(pairs: list[Pair], exact: FloatArray, scores: FloatArray) -> Fidelity:
    """Compare scores with the exact ones. Orders are compared for queries of three documents and more.

    Args:
        pairs: (query, document) tuples; equal queries form a group.
        exact: the scores to agree with, float32 ``[pairs]``.
        scores: the scores to judge, float32 ``[pairs]``.

    Raises:
        InputError: no query has three documents with different exact scores.

    >>> pairs = [("q", "a"), ("q", "b"), ("q", "c")]
    >>> agreement = measure(pairs, np.float32([3, 2, 1]), np.float32([3, 1, 2]))
    >>> agreement.queries, round(agreement.kendall, 3), agreement.top10
    (1, 0.333, 1.0)
    """
    from scipy.stats import kendalltau, spearmanr  # slow to import, and only this needs it

    groups: dict[str, list[int]] = {}
    for index, (query, _) in enumerate(pairs):
        groups.setdefault(query, []).append(index)
    ranked = [group for group in groups.values() if len(group) >= MIN_DOCUMENTS and np.ptp(exact[group]) > 0]
    if not ranked:
        raise InputError(
            "no query has three or more documents with different scores, so there is no order to compare; give more "
            "documents for each query",
            pairs=len(pairs),
            limit=MIN_DOCUMENTS,
        )
    return Fidelity(
        pairs=len(pairs),
        queries=len(ranked),
        rms=float(np.sqrt(np.mean((scores - exact) ** 2)) / exact.std()),
        spearman=float(np.mean([_correlation(spearmanr, exact[group], scores[group]) for group in ranked])),
        kendall=float(np.mean([_correlation(kendalltau, exact[group], scores[group]) for group in ranked])),
        top10=float(np.mean([_top_kept(exact[group], scores[group]) for group in ranked])),
    )


def _correlation(statistic: Callable[..., Any], exact: FloatArray, scores: FloatArray) -> float:
    """A rank correlation; 0 where all scores are equal, for which none is defined."""
    return float(statistic(exact, scores).statistic) if np.ptp(scores) > 0 else 0.0


def _top_kept(exact: FloatArray, scores: FloatArray) -> float:
    """The share of the best documents by exact score that are among the best by score."""
    return len(_top(exact) & _top(scores)) / min(TOP, len(exact))


def _top(scores: FloatArray) -> set[int]:
    return set(np.argsort(-scores, kind="stable")[:TOP].tolist())

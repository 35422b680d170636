"""nDCG@10, MRR@10 and MAP through ir-measures, with bootstrap confidence intervals and a paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, permutation_test

from .formats import EvaluationSet

MEASURES = {"nDCG@10": ir_measures.nDCG @ 10, "MRR@10": ir_measures.RR @ 10, "MAP": ir_measures.AP}
RESAMPLES = 10_000
BATCH = 200  # of them at a time: some megabytes for thousands of queries
CONFIDENCE = 0.95
SEED = 20240

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def by_query(data: EvaluationSet, ranking: Mapping[str, Sequence[str]]) -> dict[str, Values]:
    """Each measure's value for each judged query, ``[queries]`` in the order of ``data.judged``.

    A query without a ranking counts as 0. Grades from 1 on are relevant to MRR and MAP; nDCG has gains of the grade.

    Args:
        data: with the judgements.
        ranking: document ids by query, best first. The order counts, not scores: trec_eval would break their ties anew.
    """
    run = {query: {name: -float(place) for place, name in enumerate(ranking[query])} for query in ranking}
    place_of = {query: place for place, query in enumerate(data.judged)}
    values = {name: np.zeros(len(place_of)) for name in MEASURES}
    names = {measure: name for name, measure in MEASURES.items()}
    for found in ir_measures.iter_calc(list(MEASURES.values()), data.qrels, run):
        values[names[found.measure]][place_of[found.query_id]] = found.value
    return values


def estimate(values: Values) -> Estimate:
    """Mean and its percentile bootstrap interval over queries (Sakai, 2006).

    >>> str(estimate(np.ones(3)))
    '1.0000 [1.0000, 1.0000]'
    """
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Estimate(mean, mean, mean)
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(mean, float(found.low), float(found.high))


def chance_of_difference(before: Values, after: Values) -> float:
    """The p value of a paired, two-sided randomisation test of the means (Smucker, Allan and Carterette, 2007).

    1 for a single query, of which nothing can be said.
    """
    if np.array_equal(before, after) or len(before) < 2:
        return 1.0
    found = permutation_test(
        (before, after),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)

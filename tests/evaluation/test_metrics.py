"""The metrics are what a calculation by hand gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from modernrank.evaluation.formats import EvaluationSet
from modernrank.evaluation.metrics import by_query


def test_the_metrics_of_the_first_stage(data: EvaluationSet) -> None:
    """q1 has grades 0, 2, 0, 1 and misses a document of grade 1; the only relevant one of q2 is third."""
    values = by_query(data, data.candidates)
    ideal = 2 + 1 / np.log2(3) + 1 / np.log2(4)
    assert values["nDCG@10"].tolist() == pytest.approx([(2 / np.log2(3) + 1 / np.log2(5)) / ideal, 1 / np.log2(4)])
    assert values["MRR@10"].tolist() == pytest.approx([1 / 2, 1 / 3])
    assert values["MAP"].tolist() == pytest.approx([(1 / 2 + 2 / 4 + 0) / 3, 1 / 3])


def test_a_judged_query_without_candidates_counts_as_0(data: EvaluationSet) -> None:
    fewer = dataclasses.replace(data, candidates={"q1": data.candidates["q1"]})
    assert by_query(fewer, fewer.candidates)["MRR@10"].tolist() == [0.5, 0.0]


def test_a_query_without_judgements_is_left_out(data: EvaluationSet) -> None:
    assert [len(values) for values in by_query(data, data.candidates).values()] == [2, 2, 2]

"""The table and the JSON hold the figures, and mark those that are undefined."""

from __future__ import annotations

import json

import pytest

from modernrank.evaluation.compare import Row
from modernrank.evaluation.formats import EvaluationSet
from modernrank.evaluation.report import as_json, table
from modernrank.evaluation.significance import Estimate

FIRST = Row("first stage", {"MAP": Estimate(0.5, 0.4, 0.6)}, {}, {})


def second(change: float | None, p_value: float | None) -> Row:
    return Row("tiny fp32", {"MAP": Estimate(0.55, None, None)}, {"MAP": change}, {"MAP": p_value})


def test_the_table_has_a_line_for_each_contender(data: EvaluationSet) -> None:
    head, measures, *lines = table(data, [FIRST, second(0.1, 0.04)]).splitlines()
    assert head.startswith("2 queries;")
    assert measures.split() == ["MAP"]
    assert lines == ["first stage  0.5000 [0.4000, 0.6000]", "tiny fp32    0.5500 - +10.0% p=0.040"]


@pytest.mark.parametrize(
    ("change", "p_value", "cells"),
    [(None, 1.0, ["-", "p=1.000"]), (0.5, None, ["+50.0%", "p=-"]), (-0.5, 0.0001, ["-50.0%", "p<0.001"])],
)
def test_what_is_undefined_is_a_dash(
    data: EvaluationSet, change: float | None, p_value: float | None, cells: list[str]
) -> None:
    last = table(data, [FIRST, second(change, p_value)]).splitlines()[-1]
    assert last.split()[-2:] == cells


def test_the_json_is_valid_and_lists_queries(data: EvaluationSet) -> None:
    figures = json.loads(json.dumps(as_json(data, [FIRST, second(None, None)]), allow_nan=False))
    assert figures["queries"] == 2
    assert figures["sha256"] == data.sha256
    assert figures["unjudged"] == ["q3"]
    assert figures["without_candidates"] == []
    assert figures["results"] == {
        "first stage": {"MAP": {"mean": 0.5, "low": 0.4, "high": 0.6}},
        "tiny fp32": {"MAP": {"mean": 0.55, "low": None, "high": None, "change": None, "p": None}},
    }

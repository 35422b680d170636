"""The figures of a comparison as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .compare import Row
from .formats import EvaluationSet

CELL = 42  # characters of a mean, its interval, a change and a p value
MIN_P = 0.0005  # smaller ones would round to 0.000


def table(data: EvaluationSet, rows: Sequence[Row]) -> str:
    """A line for each contender: mean and 95 % interval, and for all but the first the change and its p value.

    What is not defined is shown as ``-``: the interval and the p value of a single query, and the change from 0.
    """
    measures = list(rows[0].estimates)
    width = max(len(row.name) for row in rows)
    queries = f"{len(data.judged)} {'query' if len(data.judged) == 1 else 'queries'}"
    lines = [
        f"{queries}; mean [95 % interval], change from {rows[0].name}, p of a paired test",
        f"{'':{width}}  {'  '.join(f'{measure:<{CELL}}' for measure in measures)}",
    ]
    for row in rows:
        cells = "  ".join(f"{_cell(row, measure):<{CELL}}" for measure in measures)
        lines.append(f"{row.name:{width}}  {cells}")
    return "\n".join(line.rstrip() for line in lines)


def _cell(row: Row, measure: str) -> str:
    text = str(row.estimates[measure])
    if measure not in row.changes:
        return text
    change = row.changes[measure]
    return f"{text} {'-' if change is None else format(change, '+.1%')} {_p(row.p_values[measure])}"


def _p(value: float | None) -> str:
    if value is None:
        return "p=-"
    return "p<0.001" if value < MIN_P else f"p={value:.3f}"


def as_json(data: EvaluationSet, rows: Sequence[Row]) -> dict[str, Any]:
    """The figures as a JSON object.

    ``queries`` is the number of judged queries, ``sha256`` that of the evaluation set; ``unjudged`` and
    ``without_candidates`` list query ids, which ``notes`` sums up in words. ``results`` has, by contender and measure,
    ``mean``, ``low`` and ``high``, and for all but the first contender ``change`` and ``p``. Undefined values are null.
    """
    return {
        "queries": len(data.judged),
        "sha256": data.sha256,
        "notes": data.notes,
        "unjudged": data.unjudged,
        "without_candidates": data.without_candidates,
        "results": {row.name: {measure: _figures(row, measure) for measure in row.estimates} for row in rows},
    }


def _figures(row: Row, measure: str) -> dict[str, float | None]:
    estimate = row.estimates[measure]
    figures = {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}
    if measure in row.changes:
        figures |= {"change": row.changes[measure], "p": row.p_values[measure]}
    return figures


def mean_table(compared: Mapping[str, Sequence[Row]]) -> str:
    """A line for each contender: its means over several evaluation sets, of which each counts the same."""
    means = mean_as_json(compared)
    measures = list(next(iter(means.values())))
    width = max(map(len, means))
    lines = [f"mean of {len(compared)} sets", f"{'':{width}}  {'  '.join(f'{measure:<8}' for measure in measures)}"]
    lines += [
        f"{name:{width}}  {'  '.join(f'{value:<8.4f}' for value in values.values())}" for name, values in means.items()
    ]
    return "\n".join(line.rstrip() for line in lines)


def mean_as_json(compared: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, float]]:
    """By contender and measure the mean of the means of each set.

    Args:
        compared: by name of an evaluation set the rows of the same contenders in the same order.
    """
    by_contender = list(zip(*compared.values(), strict=True))
    return {
        rows[0].name: {
            measure: float(np.mean([row.estimates[measure].mean for row in rows])) for measure in rows[0].estimates
        }
        for rows in by_contender
    }

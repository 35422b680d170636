"""The table of an evaluation: contenders side by side, each beside the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .metrics import MEASURES, Estimate, Values, chance_of_difference, estimate


@dataclass(frozen=True)
class Row:
    """A contender's figures; changes and p values are beside the first contender, and empty for that one.

    A change from 0 is None.
    """

    name: str
    estimates: dict[str, Estimate]
    changes: dict[str, float | None]
    chances: dict[str, float]


def rows(values: Mapping[str, Mapping[str, Values]]) -> list[Row]:
    """One for each contender, from its values by measure and query; the first is what the others are compared with."""
    first = next(iter(values.values()))
    found = []
    for name, measured in values.items():
        estimates = {measure: estimate(measured[measure]) for measure in MEASURES}
        changes: dict[str, float | None] = {}
        chances: dict[str, float] = {}
        if measured is not first:
            for measure in MEASURES:
                base = float(first[measure].mean())
                changes[measure] = float(measured[measure].mean()) / base - 1 if base else None
                chances[measure] = chance_of_difference(first[measure], measured[measure])
        found.append(Row(name, estimates, changes, chances))
    return found


def table(found: list[Row], queries: int) -> str:
    """As text: mean, 95 % interval, and for all but the first the change and its p value."""
    width = max(len(row.name) for row in found)
    head = f"{'':{width}}  " + "  ".join(f"{measure:<42}" for measure in MEASURES)
    lines = [
        f"{queries} queries; mean [95 % interval], change from {found[0].name} and p of a paired test",
        head.rstrip(),
    ]
    for row in found:
        cells = []
        for measure in MEASURES:
            text = str(row.estimates[measure])
            if row.changes:
                change = row.changes[measure]
                text += f" {'from 0' if change is None else format(change, '+.1%')} p={row.chances[measure]:.3f}"
            cells.append(f"{text:<42}")
        lines.append(f"{row.name:{width}}  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def as_json(found: list[Row]) -> dict[str, Any]:
    """For a file: the figures by contender and measure."""
    return {
        row.name: {
            measure: {
                "mean": value.mean,
                "low": value.low,
                "high": value.high,
                **({"change": row.changes[measure], "p": row.chances[measure]} if row.changes else {}),
            }
            for measure, value in row.estimates.items()
        }
        for row in found
    }

"""Plots of results, as SVG or PNG. Requires ``modernrank[bench]``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.errors import InputError

from .result import Measurement, Result

OURS, THEIRS = "#0b6e4f", "#9aa5b1"

Points = dict[str, list[tuple[float, Measurement]]]  # by contender: each x and its measurement


def plot(result: Result, folder: Path, suffix: str) -> list[Path]:
    """Write every plot for which ``result`` has the data.

    Args:
        result: what was measured.
        folder: where the files go; it is created if necessary.
        suffix: the format, ``"svg"`` or ``"png"``.

    Returns:
        The files that were written: ``throughput`` (pairs/s of each contender), ``batch`` (pairs/s by batch size),
        ``length`` (latency of one pair by its tokens) and ``load`` (latency by queries per second).

    Raises:
        InputError: the result has data for none of them.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "modernrank"  # the same result gives the same file
    measured = [m for m in result.measurements if not m.error and m.seconds]
    files = []
    for name, draw in (("throughput", _throughput), ("batch", _batch), ("length", _length), ("load", _load)):
        figure = draw(measured)
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{name}.{suffix}"
            figure.savefig(file, bbox_inches="tight", dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            files.append(file)
    if not files:
        raise InputError("this result has data for no plot; measure several contenders, lengths, batches or rates")
    return files


def _throughput(measured: list[Measurement]) -> Any:
    """A bar of pairs/s for each contender at its best, on the first workload of the query scenario."""
    queries = [m for m in measured if m.scenario == "query"]
    of_first = [m for m in queries if m.workload == queries[0].workload]
    best: dict[str, Measurement] = {}
    for m in of_first:
        if m.contender not in best or m.median < best[m.contender].median:
            best[m.contender] = m
    if len(best) < 2:
        return None
    rows = sorted(best.values(), key=lambda m: m.pairs_per_second)
    figure, axes = _axes((7, 0.36 * len(rows) + 0.8))
    colours = [OURS if m.ours else THEIRS for m in rows]
    bars = axes.barh([m.contender for m in rows], [m.pairs_per_second for m in rows], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("pairs/s, each at its best batch size")
    return figure


def _batch(measured: list[Measurement]) -> Any:
    points = _points([m for m in measured if "batch" in m.parameters], lambda m: float(m.parameters["batch"]))
    return _lines(points, _Axis("pairs in a batch"), _Axis("pairs/s"), lambda m: m.pairs_per_second)


def _length(measured: list[Measurement]) -> Any:
    one_pair = [m for m in measured if m.scenario == "single" or m.parameters.get("documents", 1) == 1]
    one_pair = [m for m in one_pair if m.scenario in ("single", "query") and m.tokens_per_pair]
    points = _points(one_pair, lambda m: float(m.tokens_per_pair or 0))
    return _lines(points, _Axis("tokens in a pair"), _Axis("latency, s", log=True), lambda m: m.median)


def _load(measured: list[Measurement]) -> Any:
    rows = sorted((m for m in measured if m.scenario == "server"), key=lambda m: m.parameters["rate"])
    if len(rows) < 2:
        return None
    figure, axes = _axes((6, 3.6))
    for percentile in ("p50", "p90", "p99"):
        known = [m for m in rows if percentile in m.percentiles]
        rates = [m.parameters["rate"] for m in known]
        axes.plot(rates, [m.percentiles[percentile] * 1e3 for m in known], marker="o", label=percentile)
    axes.set_xlabel("queries in a second, arriving at random")
    axes.set_ylabel("latency, ms")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def _points(measured: list[Measurement], x_of: Callable[[Measurement], float]) -> Points:
    """The points of each contender, from left to right. Of several measurements at one x, the fastest is taken."""
    fastest: dict[str, dict[float, Measurement]] = defaultdict(dict)
    for m in measured:
        at_x = fastest[m.contender].setdefault(x_of(m), m)
        if m.median < at_x.median:
            fastest[m.contender][x_of(m)] = m
    return {name: sorted(by_x.items()) for name, by_x in fastest.items()}


@dataclass(frozen=True)
class _Axis:
    """An axis: its label, and whether its scale is logarithmic."""

    label: str
    log: bool = False


def _lines(points: Points, x: _Axis, y: _Axis, y_of: Callable[[Measurement], float]) -> Any:
    """A line for each contender; None if no contender has two points."""
    if not any(len(line) > 1 for line in points.values()):
        return None
    figure, axes = _axes((6, 3.6))
    for name, line in points.items():
        width = 2.5 if line[0][1].ours else 1
        axes.plot([place for place, _ in line], [y_of(m) for _, m in line], marker="o", label=name, lw=width)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    if y.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    axes.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    return figure


def _axes(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

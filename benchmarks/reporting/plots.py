"""Plots of results, as SVG or PNG by the file's name. Needs ``modernrank[bench]``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from modernrank.errors import InputError

from .result import Measurement, Result

OURS, THEIRS = "#0b6e4f", "#9aa5b1"


def plot(result: Result, folder: Path, suffix: str) -> list[Path]:
    """Write every plot that ``result`` has the data for.

    Returns:
        The files: ``throughput`` (pairs/s by contender), ``batch`` (pairs/s against batch size), ``length`` (latency
        against tokens a pair) and ``load`` (latency against arrivals a second).

    Raises:
        InputError: the result holds nothing that can be drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "modernrank"  # the same result gives the same file
    measured = [m for m in result.measurements if not m.error and m.seconds]
    drawn = []
    for name, draw in (("throughput", _throughput), ("batch", _batch), ("length", _length), ("load", _load)):
        figure = draw(measured)
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{name}.{suffix}"
            figure.savefig(file, bbox_inches="tight", dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            drawn.append(file)
    if not drawn:
        raise InputError("this result holds nothing to draw: plots need several contenders, lengths, batches or rates")
    return drawn


def _throughput(measured: list[Measurement]) -> Any:
    """Bars of pairs/s, each contender at its best, on the first workload of the query scenario."""
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
    colours = [OURS if m.contender.startswith("modernrank") else THEIRS for m in rows]
    bars = axes.barh([m.contender for m in rows], [m.pairs_per_second for m in rows], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("pairs/s, each at its best batch size")
    return figure


def _batch(measured: list[Measurement]) -> Any:
    series = _series([m for m in measured if "batch" in m.parameters], lambda m: float(m.parameters["batch"]))
    return _lines(series, "pairs in a batch", "pairs/s", lambda m: m.pairs_per_second)


def _length(measured: list[Measurement]) -> Any:
    # "128 tokens", and not the "32 x 128 tokens" of gpu_check, whose latency is of many pairs.
    fixed = [m for m in measured if m.workload.split()[1:] == ["tokens"] and m.scenario in ("single", "query")]
    series = _series(fixed, lambda m: float(m.workload.split()[0]))
    return _lines(series, "tokens in a pair", "latency, s", lambda m: m.median, log=True)


def _load(measured: list[Measurement]) -> Any:
    rows = sorted((m for m in measured if m.scenario == "server"), key=lambda m: m.parameters["rate"])
    if len(rows) < 2:
        return None
    figure, axes = _axes((6, 3.6))
    for percentile in ("p50", "p90", "p99"):
        known = [m for m in rows if percentile in m.percentiles]
        rates = [m.parameters["rate"] for m in known]
        axes.plot(rates, [m.percentiles[percentile] * 1e3 for m in known], marker="o", label=percentile)
    axes.set_xlabel("queries a second, arriving by chance")
    axes.set_ylabel("latency, ms")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def _series(measured: list[Measurement], place: Any) -> dict[str, list[tuple[float, Measurement]]]:
    """By contender: points from left to right, of several at one place the quickest."""
    found: dict[str, dict[float, Measurement]] = defaultdict(dict)
    for m in measured:
        x = place(m)
        if x not in found[m.contender] or m.median < found[m.contender][x].median:
            found[m.contender][x] = m
    return {name: sorted(points.items()) for name, points in found.items()}


def _lines(series: dict[str, list[tuple[float, Measurement]]], x: str, y: str, height: Any, log: bool = False) -> Any:
    if not any(len(points) > 1 for points in series.values()):
        return None
    figure, axes = _axes((6, 3.6))
    for name, points in series.items():
        own = name.startswith("modernrank")
        axes.plot([p[0] for p in points], [height(p[1]) for p in points], marker="o", label=name, lw=2.5 if own else 1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    return figure


def _axes(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

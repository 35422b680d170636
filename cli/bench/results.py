"""``modernrank bench report`` and ``compare``: show results."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..base import note
from ..options import positive_number
from .common import add_baseline


def report(args: argparse.Namespace) -> int:
    """``modernrank bench report``."""
    from modernrank.benchmarks.reporting.result import Result
    from modernrank.benchmarks.reporting.table import markdown

    results = [Result.read(path) for path in args.result]
    merged = Result(results[0].environment, [m for result in results for m in result.measurements])
    print(markdown(merged, args.baseline), end="")
    if args.plots:
        from modernrank.benchmarks.reporting.plots import plot

        for file in plot(merged, args.plots, args.format):
            note(f"wrote {file}")
    return 0


def compare(args: argparse.Namespace) -> int:
    """``modernrank bench compare``."""
    from modernrank.benchmarks.reporting.compare import compare
    from modernrank.benchmarks.reporting.result import Result

    comparison = compare(Result.read(args.before), Result.read(args.after), args.threshold)
    for line in [*map(str, comparison.changes), *comparison.unmatched]:
        print(line)
    return 1 if comparison.slower else 0


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Of ``report``."""
    parser.add_argument(
        "result",
        type=Path,
        nargs="+",
        help="a file that `--out` wrote; of several files, the environment of the first is shown",
    )
    add_baseline(parser)
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots for which the results have data")
    parser.add_argument(
        "--format", default="svg", choices=("svg", "png"), help="format of the plots (default: %(default)s)"
    )


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Of ``compare``."""
    parser.add_argument("before", type=Path, help="the old result")
    parser.add_argument("after", type=Path, help="the new result")
    parser.add_argument(
        "--threshold",
        type=positive_number,
        default=0.05,
        metavar="SHARE",
        help="ignore smaller changes (default: %(default)s)",
    )

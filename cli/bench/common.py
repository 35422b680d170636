"""What the commands of ``modernrank bench`` share: workloads, results, and options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from modernrank.benchmarks import defaults

from ..base import note
from ..options import add_out, positive_int, positive_number

if TYPE_CHECKING:  # the command line imports this module on every start, so each command imports what it runs
    from modernrank.benchmarks.measure.workload import WorkloadOptions
    from modernrank.benchmarks.reporting.result import Result


def workload_options(args: argparse.Namespace) -> WorkloadOptions:
    """The workloads that a command asks for."""
    from modernrank.benchmarks.measure.workload import WorkloadOptions

    return WorkloadOptions(
        files=tuple(args.pairs or ()),
        lengths=tuple(args.length or ()),
        mix=args.mix,
        documents=args.documents,
        queries=args.queries,
        seed=args.seed,
    )


def finish(result: Result, out: Path | None, baseline: str | None = None) -> int:
    """Print a result as a table, and write it where the command asks for it."""
    from modernrank.benchmarks.reporting.table import markdown

    print(markdown(result, baseline), end="", flush=True)  # first: a full disk then loses no figures
    if out:
        result.write(out)
        note(f"wrote {out}")
    return 0


def add_workload_options(parser: argparse.ArgumentParser) -> None:
    """Which pairs are scored."""
    parser.add_argument(
        "--pairs", action="append", metavar="FILE", help="score JSON lines of pairs, grouped by query; repeatable"
    )
    parser.add_argument(
        "--length", action="append", type=positive_int, metavar="TOKENS", help="score pairs of this length; repeatable"
    )
    parser.add_argument(
        "--mix", action="store_true", help="score pairs with the lengths of passage search (the default)"
    )
    parser.add_argument(
        "--documents",
        type=positive_int,
        metavar="K",
        help="number of documents per query (default: 100 with --mix, 1 with --length, all with --pairs)",
    )
    parser.add_argument(
        "--queries",
        type=positive_int,
        default=1,
        help="number of queries with --mix or --length (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the texts and the arrivals (default: %(default)s)")


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """``--peak-seconds`` and ``--out``."""
    parser.add_argument(
        "--peak-seconds",
        type=positive_number,
        default=defaults.PEAK_SECONDS,
        metavar="SECONDS",
        help="how long each peak rate of matrix products is measured (default: %(default)s)",
    )
    add_out(parser, "write the result as JSON, with its raw samples")


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """``--rounds``."""
    parser.add_argument(
        "--rounds",
        type=positive_int,
        default=defaults.ROUNDS,
        help="number of samples of each contender (default: %(default)s)",
    )


def add_environments(parser: argparse.ArgumentParser, text: str) -> None:
    """``--environments``; ``text`` says what is kept there."""
    parser.add_argument("--environments", type=Path, default=defaults.PEER_FOLDER, metavar="FOLDER", help=text)


def add_baseline(parser: argparse.ArgumentParser) -> None:
    """``--baseline``."""
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="contender whose speed counts as 1 (default: sentence-transformers or transformers)",
    )

"""``modernrank bench run | peers | versions | report | compare``: measure artifacts, and show results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from modernrank.benchmarks import defaults
from modernrank.options import names_of

from .base import Command, note
from .options import (
    add_artifact,
    add_out,
    add_precision,
    add_running_options,
    check_out,
    positive_int,
    positive_number,
    running_options,
)

if TYPE_CHECKING:  # the command line imports this module on every start, so each command imports what it runs
    from modernrank.benchmarks.measure.workload import WorkloadOptions
    from modernrank.benchmarks.reporting.result import Result


def add_options(parser: argparse.ArgumentParser) -> None:
    """The subcommands of ``modernrank bench``."""
    commands = parser.add_subparsers(dest="bench", required=True, metavar="COMMAND")
    for name, run, add, text in (
        ("run", _run, _add_run_options, "Measure an artifact in one or more scenarios."),
        ("peers", _peers, _add_peers_options, "Measure artifacts and other runtimes on the same checkpoint, in turns."),
        ("versions", _versions, _add_versions_options, "Measure this version and earlier commits, in turns."),
        ("report", _report, _add_report_options, "Show results as a Markdown table, and as plots."),
        ("compare", _compare, _add_compare_options, "List what became faster or slower; exit with 1 if any is slower."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        add(command)


def _run(args: argparse.Namespace) -> int:
    from modernrank.benchmarks.measure.concurrent import Concurrency
    from modernrank.benchmarks.measure.scenarios import Budget
    from modernrank.benchmarks.run import ScenarioOptions, run_scenarios

    check_out(args.out)
    options = ScenarioOptions(
        scenarios=tuple(args.scenario or defaults.SCENARIOS),
        workloads=_workload_options(args),
        budget=Budget(args.seconds, args.samples),
        rates=tuple(args.rate or ()),
        concurrency=Concurrency(args.callers, args.list_priority),
        peak_seconds=args.peak_seconds,
    )
    result = run_scenarios(args.artifact, options, report=note, precision=args.precision, **running_options(args))
    if args.p99_bound is not None:
        _print_rates(result, args.p99_bound)
    return _finish(result, args.out)


def _peers(args: argparse.Namespace) -> int:
    from modernrank.benchmarks.peers.contenders import PeerSetup
    from modernrank.benchmarks.run import PeersOptions, run_peers
    from modernrank.host import available_threads

    check_out(args.out)
    setup = PeerSetup(
        checkpoint=args.checkpoint,
        threads=args.threads or available_threads(),
        batches=tuple(args.batch or defaults.PEER_BATCHES),
        device=args.torch_device,
        folder=args.environments,
        torch=args.torch,
        this_environment=args.this_environment,
    )
    options = PeersOptions(
        workloads=_workload_options(args),
        peers=tuple(args.peer or ()),
        rounds=args.rounds,
        peak_seconds=args.peak_seconds,
    )
    result = run_peers(args.artifact, setup, options, report=note, **running_options(args))
    return _finish(result, args.out, args.baseline)


def _versions(args: argparse.Namespace) -> int:
    from modernrank.benchmarks.run import PeersOptions, run_versions

    check_out(args.out)
    options = PeersOptions(workloads=_workload_options(args), rounds=args.rounds)
    result = run_versions(
        args.artifact,
        args.commit,
        options,
        earlier_artifact=args.earlier_artifact,
        folder=args.environments,
        report=note,
        precision=args.precision,
        **running_options(args),
    )
    return _finish(result, args.out, args.baseline)


def _report(args: argparse.Namespace) -> int:
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


def _compare(args: argparse.Namespace) -> int:
    from modernrank.benchmarks.reporting.compare import compare
    from modernrank.benchmarks.reporting.result import Result

    comparison = compare(Result.read(args.before), Result.read(args.after), args.threshold)
    for line in [*map(str, comparison.changes), *comparison.unmatched]:
        print(line)
    return 1 if comparison.slower else 0


def _workload_options(args: argparse.Namespace) -> WorkloadOptions:
    from modernrank.benchmarks.measure.workload import WorkloadOptions

    return WorkloadOptions(
        files=tuple(args.pairs or ()),
        lengths=tuple(args.length or ()),
        mix=args.mix,
        documents=args.documents,
        queries=args.queries,
        seed=args.seed,
    )


def _print_rates(result: Result, p99_bound: float) -> None:
    """The highest rate within a bound, for each workload of the server scenario."""
    from modernrank.benchmarks.measure.concurrent import rate_within

    measurements = [m for m in result.measurements if m.scenario == "server"]
    for workload in dict.fromkeys(m.workload for m in measurements):
        rate = rate_within([m for m in measurements if m.workload == workload], p99_bound)
        verdict = "no measured rate, or too few samples" if rate is None else f"up to {rate:g} queries per second"
        print(f"{workload}: p99 within {p99_bound:g} s: {verdict}")


def _finish(result: Result, out: Path | None, baseline: str | None = None) -> int:
    from modernrank.benchmarks.reporting.table import markdown

    print(markdown(result, baseline), end="", flush=True)  # first: a full disk then loses no figures
    if out:
        result.write(out)
        note(f"wrote {out}")
    return 0


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser)
    parser.add_argument(
        "--scenario",
        action="append",
        choices=names_of(defaults.ScenarioName),
        help="repeat it for several (default: query, single)",
    )
    _add_workload_options(parser)
    parser.add_argument(
        "--seconds",
        type=float,
        default=defaults.SECONDS,
        help="minimum duration of a measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=positive_int,
        default=defaults.SAMPLES,
        help="minimum number of calls in a measurement (default: %(default)s)",
    )
    _add_arrival_options(parser)
    add_precision(parser)
    add_running_options(parser)
    _add_result_options(parser)


def _add_arrival_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate",
        action="append",
        type=positive_number,
        help="for the server and the mixed scenario: queries per second; repeat it for several in the former (default: "
        "five shares of capacity, and a tenth)",
    )
    parser.add_argument(
        "--callers",
        type=positive_int,
        default=defaults.CALLERS,
        help="for the callers scenario: number of callers, each with one query at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--list-priority",
        type=int,
        default=0,
        metavar="P",
        help="for the mixed scenario: priority of the lists, 0 to 999; queries have 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--p99-bound",
        type=positive_number,
        metavar="SECONDS",
        help="for the server scenario: print the highest rate whose 99th percentile is within this bound",
    )


def _add_peers_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the folder from which the artifacts were exported")
    parser.add_argument("artifact", type=Path, nargs="+", help="a folder that `modernrank export` wrote")
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME",
        help="a peer; repeat it for several (default: all that run on the device)",
    )
    _add_workload_options(parser)
    _add_rounds(parser)
    parser.add_argument(
        "--batch",
        action="append",
        type=positive_int,
        help="batch size for peers; repeat it for several (default: 1, 4, 8, 32)",
    )
    add_running_options(parser)
    parser.add_argument("--torch-device", default="cpu", help="torch's name of the device (default: %(default)s)")
    parser.add_argument("--torch", default=defaults.TORCH, help="what pip installs as torch (default: %(default)s)")
    _add_environments(parser, "folder for the peers' virtual environments and exports (default: %(default)s)")
    parser.add_argument(
        "--this-environment",
        action="store_true",
        help="run peers in this environment, which must have what they require",
    )
    _add_baseline(parser)
    _add_result_options(parser)


def _add_versions_options(parser: argparse.ArgumentParser) -> None:
    add_artifact(parser)
    parser.add_argument("--commit", action="append", required=True, help="an earlier commit; repeat it for several")
    parser.add_argument(
        "--earlier-artifact", metavar="FOLDER", help="what the commits run instead, as an earlier version exported it"
    )
    _add_workload_options(parser)
    _add_rounds(parser)
    _add_environments(parser, "folder for the sources of the commits (default: %(default)s)")
    add_precision(parser)
    add_running_options(parser)
    _add_baseline(parser)
    add_out(parser, "write the result as JSON, with its raw samples")


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "result",
        type=Path,
        nargs="+",
        help="a file that `--out` wrote; of several files, the environment of the first is shown",
    )
    _add_baseline(parser)
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the plots for which the results have data")
    parser.add_argument(
        "--format", default="svg", choices=("svg", "png"), help="format of the plots (default: %(default)s)"
    )


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, help="the old result")
    parser.add_argument("after", type=Path, help="the new result")
    parser.add_argument(
        "--threshold",
        type=positive_number,
        default=0.05,
        metavar="SHARE",
        help="ignore smaller changes (default: %(default)s)",
    )


def _add_workload_options(parser: argparse.ArgumentParser) -> None:
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


def _add_result_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peak-seconds",
        type=positive_number,
        default=defaults.PEAK_SECONDS,
        metavar="SECONDS",
        help="how long each peak rate of matrix products is measured (default: %(default)s)",
    )
    add_out(parser, "write the result as JSON, with its raw samples")


def _add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds",
        type=positive_int,
        default=defaults.ROUNDS,
        help="number of samples of each contender (default: %(default)s)",
    )


def _add_environments(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--environments", type=Path, default=defaults.PEER_FOLDER, metavar="FOLDER", help=text)


def _add_baseline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="contender whose speed counts as 1 (default: sentence-transformers or transformers)",
    )


BENCH = Command(
    "bench",
    "Measure artifacts, alone or beside others, and show results.",
    add_options,
    lambda args: int(args.run(args)),  # of its own commands
    "bench",
)

"""``modernrank bench run``, ``peers`` and ``versions``: measure artifacts, alone or beside others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from modernrank.benchmarks import defaults
from modernrank.options import names_of

from ..base import note
from ..options import (
    add_artifact,
    add_out,
    add_precision,
    add_running_options,
    check_out,
    positive_int,
    positive_number,
    running_options,
)
from .common import (
    add_baseline,
    add_environments,
    add_result_options,
    add_rounds,
    add_workload_options,
    finish,
    workload_options,
)

if TYPE_CHECKING:
    from modernrank.benchmarks.reporting.result import Result


def run(args: argparse.Namespace) -> int:
    """``modernrank bench run``."""
    from modernrank.benchmarks.measure.concurrent import Concurrency
    from modernrank.benchmarks.measure.scenarios import Budget
    from modernrank.benchmarks.run import ScenarioOptions, run_scenarios

    check_out(args.out)
    options = ScenarioOptions(
        scenarios=tuple(args.scenario or defaults.SCENARIOS),
        workloads=workload_options(args),
        budget=Budget(args.seconds, args.samples),
        rates=tuple(args.rate or ()),
        concurrency=Concurrency(args.callers, args.list_priority),
        peak_seconds=args.peak_seconds,
    )
    result = run_scenarios(args.artifact, options, report=note, precision=args.precision, **running_options(args))
    if args.p99_bound is not None:
        _print_rates(result, args.p99_bound)
    return finish(result, args.out)


def peers(args: argparse.Namespace) -> int:
    """``modernrank bench peers``."""
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
        workloads=workload_options(args),
        peers=tuple(args.peer or ()),
        rounds=args.rounds,
        peak_seconds=args.peak_seconds,
    )
    result = run_peers(args.artifact, setup, options, report=note, **running_options(args))
    return finish(result, args.out, args.baseline)


def versions(args: argparse.Namespace) -> int:
    """``modernrank bench versions``."""
    from modernrank.benchmarks.run import PeersOptions, run_versions

    check_out(args.out)
    options = PeersOptions(workloads=workload_options(args), rounds=args.rounds)
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
    return finish(result, args.out, args.baseline)


def _print_rates(result: Result, p99_bound: float) -> None:
    """The highest rate within a bound, for each workload of the server scenario."""
    from modernrank.benchmarks.measure.concurrent import rate_within

    measurements = [m for m in result.measurements if m.scenario == "server"]
    for workload in dict.fromkeys(m.workload for m in measurements):
        rate = rate_within([m for m in measurements if m.workload == workload], p99_bound)
        verdict = "no measured rate, or too few samples" if rate is None else f"up to {rate:g} queries per second"
        print(f"{workload}: p99 within {p99_bound:g} s: {verdict}")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Of ``run``."""
    add_artifact(parser)
    parser.add_argument(
        "--scenario",
        action="append",
        choices=names_of(defaults.ScenarioName),
        help="repeat it for several (default: query, single)",
    )
    add_workload_options(parser)
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
    add_result_options(parser)


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


def add_peers_options(parser: argparse.ArgumentParser) -> None:
    """Of ``peers``."""
    parser.add_argument("checkpoint", type=Path, help="the folder from which the artifacts were exported")
    parser.add_argument("artifact", type=Path, nargs="+", help="a folder that `modernrank export` wrote")
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME",
        help="a peer; repeat it for several (default: all that run on the device)",
    )
    add_workload_options(parser)
    add_rounds(parser)
    parser.add_argument(
        "--batch",
        action="append",
        type=positive_int,
        help="batch size for peers; repeat it for several (default: 1, 4, 8, 32)",
    )
    add_running_options(parser)
    parser.add_argument("--torch-device", default="cpu", help="torch's name of the device (default: %(default)s)")
    parser.add_argument("--torch", default=defaults.TORCH, help="what pip installs as torch (default: %(default)s)")
    add_environments(parser, "folder for the peers' virtual environments and exports (default: %(default)s)")
    parser.add_argument(
        "--this-environment",
        action="store_true",
        help="run peers in this environment, which must have what they require",
    )
    add_baseline(parser)
    add_result_options(parser)


def add_versions_options(parser: argparse.ArgumentParser) -> None:
    """Of ``versions``."""
    add_artifact(parser)
    parser.add_argument("--commit", action="append", required=True, help="an earlier commit; repeat it for several")
    parser.add_argument(
        "--earlier-artifact", metavar="FOLDER", help="what the commits run instead, as an earlier version exported it"
    )
    add_workload_options(parser)
    add_rounds(parser)
    add_environments(parser, "folder for the sources of the commits (default: %(default)s)")
    add_precision(parser)
    add_running_options(parser)
    add_baseline(parser)
    add_out(parser, "write the result as JSON, with its raw samples")

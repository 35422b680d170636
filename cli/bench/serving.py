"""``modernrank bench serve``: rerank servers under load."""

from __future__ import annotations

import argparse

from modernrank.benchmarks import defaults

from ..base import note
from ..options import add_artifact, add_out, add_precision, check_out, positive_int, positive_number
from .common import add_workload_options, finish, workload_options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of ``serve``."""
    add_artifact(parser)
    parser.add_argument(
        "--server",
        action="append",
        metavar="NAME=URL",
        help="another server on this machine that serves the same model, measured in turns; repeatable",
    )
    parser.add_argument(
        "--clients",
        type=positive_int,
        default=defaults.CLIENTS,
        help="clients of the saturated load (default: %(default)s)",
    )
    parser.add_argument(
        "--load",
        action="append",
        type=positive_number,
        metavar="SHARE",
        help="requests arrive at this share of a server's throughput; repeatable (default: 0.5)",
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=5.0, help="duration of each turn (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=defaults.ROUNDS, help="turns of each load (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive_int, help="number of threads (default: the cores that are granted)")
    add_precision(parser)
    add_workload_options(parser)
    add_out(parser, "write the result as JSON, with its raw samples")


def run(args: argparse.Namespace) -> int:
    """``modernrank bench serve``."""
    from modernrank.benchmarks.measure.serving import ServingOptions
    from modernrank.benchmarks.serve import ServeOptions, named_server, run_serving

    check_out(args.out)
    serving = ServingOptions(args.clients, tuple(args.load or (0.5,)), args.rounds, args.seconds, args.seed)
    others = [named_server(text) for text in args.server or ()]
    options = ServeOptions(workload_options(args), serving, others)
    result = run_serving(args.artifact, options, report=note, precision=args.precision, threads=args.threads)
    return finish(result, args.out)

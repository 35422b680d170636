"""``modernrank bench run | peers | report | compare``: measure, and show what was measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads this file on every start: what it needs is imported when it runs
    from modernrank.artifact.folder import Artifact
    from modernrank.benchmarks.measure.scenarios import Subject
    from modernrank.benchmarks.measure.workload import CountTokens, Workload
    from modernrank.benchmarks.reporting.result import Measurement, Result

SCENARIOS = ("query", "single", "offline", "server", "cold")
# Shares of the measured capacity at which queries arrive, where no rates are given.
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The subcommands of ``modernrank bench``."""
    commands = parser.add_subparsers(dest="bench", required=True, metavar="COMMAND")
    for name, run, add, text in (
        ("run", _run, _add_run_options, "Measure an artifact in one or more scenarios."),
        ("peers", _peers, _add_peers_options, "Measure artifacts and others on the same checkpoint, in turns."),
        ("report", _report, _add_report_options, "Show a result as a Markdown table, and as plots."),
        ("compare", _compare, _add_compare_options, "Say what got faster or slower beyond the noise; exit 1 if any."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        add(command)


def _run(args: argparse.Namespace) -> int:
    from modernrank import Reranker
    from modernrank.artifact.folder import Artifact
    from modernrank.benchmarks.measure.environment import describe
    from modernrank.benchmarks.measure.scenarios import Subject
    from modernrank.benchmarks.reporting.result import Result

    with Reranker.load(
        args.artifact, provider=args.provider, precision=args.precision, threads=args.threads, workers=args.workers
    ) as reranker:
        artifact = Artifact.open(args.artifact)
        subject, environment = Subject.of(reranker), describe(args.seed)
        environment |= {"artifact": _artifact(artifact), "peak": _peaks()}
        measurements: list[Measurement] = []
        for workload in _workloads(args, artifact.encoder().count):
            for scenario in args.scenario or ("query", "single"):
                measurements += _scenario(scenario, subject, workload, args)
    return _finish(Result(environment, measurements), args.out, None)


def _scenario(scenario: str, subject: Subject, workload: Workload, args: argparse.Namespace) -> list[Measurement]:
    from modernrank.benchmarks.measure import scenarios

    budget = scenarios.Budget(args.seconds, args.samples)
    if scenario == "cold":
        return [scenarios.cold(subject, args.artifact, workload, budget, _progress)]
    if scenario != "server":
        measure = {"query": scenarios.query, "single": scenarios.single, "offline": scenarios.offline}[scenario]
        return [measure(subject, workload, budget, _progress)]
    rates = args.rate
    if not rates:
        alone = scenarios.query(subject, workload, scenarios.Budget(3, 3), _progress)
        rates = [round(share / alone.median, 3) for share in LOADS]
    found = list(scenarios.server(subject, workload, rates, budget, args.seed, _progress))
    if args.p99_bound:
        rate = scenarios.rate_within(found, args.p99_bound)
        held = "held by no rate whose count carries a p99" if rate is None else f"held up to {rate:g} queries a second"
        print(f"p99 within {args.p99_bound:g} s: {held}")
    return found


def _peers(args: argparse.Namespace) -> int:
    from modernrank.artifact.folder import Artifact
    from modernrank.benchmarks.measure.environment import describe, gpu_peak
    from modernrank.benchmarks.peers import turns as race
    from modernrank.benchmarks.peers.peer_process import CPU, GPU_PEERS, PEERS
    from modernrank.benchmarks.reporting.result import Result
    from modernrank.host import available_threads

    threads = args.threads or available_threads()
    artifact = Artifact.open(args.artifact[0])
    environment = describe(args.seed) | {"artifact": _artifact(artifact)}
    environment["peak"] = _peaks() if args.device == CPU else gpu_peak(args.device)
    count = artifact.encoder().count
    workloads = _workloads(args, count)
    home = race.Home(args.environments, args.torch, args.here)
    batches = tuple(args.batch or (1, 4, 8, 32))
    contenders = race.own_precisions(args.artifact, threads, args.provider) + [
        race.peer_contender(peer, args.checkpoint, home, threads, batches, _progress, args.device)
        for peer in (args.peer or (PEERS if args.device == CPU else GPU_PEERS))
    ]
    measurements: list[Measurement] = []
    for workload in workloads:
        tokens = sum(map(count, workload.pairs))
        measurements += race.race(contenders, workload, tokens, args.rounds, _progress)
    return _finish(Result(environment, measurements), args.out, args.baseline)


def _report(args: argparse.Namespace) -> int:
    from modernrank.benchmarks.reporting.result import Result
    from modernrank.benchmarks.reporting.table import markdown

    results = [Result.read(path) for path in args.result]
    merged = Result(results[0].environment, [m for result in results for m in result.measurements])
    print(markdown(merged, args.baseline), end="")
    if args.plots:
        from modernrank.benchmarks.reporting.plots import plot

        for file in plot(merged, args.plots, args.format):
            _progress(f"wrote {file}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from modernrank.benchmarks.reporting.compare import compare
    from modernrank.benchmarks.reporting.result import Result

    found = compare(Result.read(args.before), Result.read(args.after), args.threshold)
    for line in [*map(str, found.changes), *found.unmatched]:
        print(line)
    return 1 if found.slower else 0


def _workloads(args: argparse.Namespace, count: CountTokens) -> list[Workload]:
    from modernrank.benchmarks.measure import workload

    found = [workload.from_file(file, args.documents) for file in args.pairs or ()]
    documents, queries = args.documents or 1, args.queries
    found += [workload.fixed(length, documents, queries, count, args.seed) for length in args.length or ()]
    if args.mix or not found:
        found.append(workload.mix(args.documents or 100, queries, count, args.seed))
    return found


def _artifact(artifact: Artifact) -> dict[str, Any]:
    """What was measured, by hash, and the operations that a token costs in it."""
    from modernrank.benchmarks.op_counts import count_graph

    folder, manifest = artifact.folder, artifact.manifest
    return {
        "name": manifest.name,
        "source": manifest.source.files,
        "files": {name: record.sha256 for name, record in manifest.files.items()},
        "linear_flops": count_graph(folder / manifest.graphs[0].file).linear_flops,
    }


def _peaks() -> dict[str, float]:
    from modernrank.benchmarks.measure.environment import matrix_product_peak

    _progress("measuring the matrix-product peak")
    return {kind: round(matrix_product_peak(kind), 1) for kind in ("int8", "fp32")}


def _finish(result: Result, out: Path | None, baseline: str | None) -> int:
    from modernrank.benchmarks.reporting.table import markdown

    if out:
        result.write(out)
        _progress(f"wrote {out}")
    print(markdown(result, baseline), end="")
    return 0


def _progress(message: str) -> None:
    print(message, file=sys.stderr)


def _add_workload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", action="append", metavar="FILE", help="JSON lines of pairs, grouped by query")
    parser.add_argument("--length", action="append", type=_positive, metavar="TOKENS", help="pairs of one length")
    parser.add_argument("--mix", action="store_true", help="lengths as passage search has them (where none is given)")
    parser.add_argument("--documents", type=_positive, metavar="K", help="of each query (100 of a mix, 1 of a length)")
    parser.add_argument("--queries", type=_positive, default=1, help="of a mix or a length (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of texts and arrivals (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the result, with its raw samples")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated (query and single)")
    _add_workload_options(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="least duration of a measurement (%(default)s)")
    parser.add_argument("--samples", type=_positive, default=10, help="fewest calls of a measurement (%(default)s)")
    parser.add_argument("--rate", action="append", type=float, help="of the server scenario, queries a second")
    parser.add_argument("--p99-bound", type=float, metavar="SECONDS", help="name the rate that holds this p99")
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=_positive)
    parser.add_argument("--workers", type=_positive)


def _add_peers_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the folder that the artifacts were made from")
    parser.add_argument("artifact", type=Path, nargs="+")
    parser.add_argument("--peer", action="append", help="may be repeated (all of them)")
    _add_workload_options(parser)
    parser.add_argument("--rounds", type=_positive, default=3, help="samples of each (%(default)s)")
    parser.add_argument("--batch", action="append", type=_positive, help="sizes that peers are tried at (1, 4, 8, 32)")
    parser.add_argument("--threads", type=_positive)
    parser.add_argument("--baseline", metavar="NAME", help="whose speed counts as 1")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path(".peers"),
        metavar="FOLDER",
        help="where their virtual environments and exports are kept (%(default)s)",
    )
    parser.add_argument("--here", action="store_true", help="run them in this environment, which has what they need")
    parser.add_argument("--device", default="cpu", help="of torch, such as cuda: then peers that know it (%(default)s)")
    parser.add_argument("--provider", default="auto", help="of the artifacts (%(default)s)")
    parser.add_argument("--torch", default="torch==2.13.0", help="what pip installs for it (%(default)s)")


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, nargs="+", help="of several, the environment of the first is shown")
    parser.add_argument("--baseline", metavar="NAME", help="whose speed counts as 1")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw what the results have the data for")
    parser.add_argument("--format", default="svg", choices=("svg", "png"), help="of the plots (%(default)s)")


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--threshold", type=float, default=0.05, help="smaller changes do not count (%(default)s)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value

"""Measure artifacts: alone in scenarios, or in turns with peers. ``modernrank bench`` calls these functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank import Reranker
from modernrank.artifact.folder import Artifact
from modernrank.errors import InputError
from modernrank.export.report import Report, silent
from modernrank.options import check_choice, positive

from .defaults import PEAK_SECONDS, PEER_FOLDER, ROUNDS, SCENARIOS, ScenarioName
from .measure import concurrent, machine_peak, scenarios
from .measure.concurrent import Arrivals, Concurrency
from .measure.environment import describe
from .measure.scenarios import Budget, Subject
from .measure.workload import Workload, WorkloadOptions, make_workloads
from .peers.contenders import PeerSetup, our_contenders, peer_contender, peer_names
from .peers.earlier_commit import versions
from .peers.peer_process import CPU
from .peers.turns import take_turns
from .reporting.result import Measurement, Result

# Arrivals in the server scenario by default, as shares of the measured capacity.
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9)
# Arrivals in the mixed scenario by default: few, so that the lists are what they wait for.
MIXED_LOAD = 0.1
CAPACITY_BUDGET = Budget(seconds=3, samples=3)


@dataclass(frozen=True)
class ScenarioOptions:
    """What ``run_scenarios`` measures.

    scenarios:    how calls arrive.
    workloads:    which pairs are scored; their seed is also that of the arrivals.
    budget:       how long each measurement lasts.
    rates:        of the server scenario, queries per second; empty for LOADS of the measured capacity. The mixed
                  scenario takes the first; by default MIXED_LOAD.
    concurrency:  the other callers of the mixed and the callers scenario.
    peak_seconds: how long each rate of the machine's matrix products is measured.

    Raises:
        InputError: a scenario is unknown, or a rate is not positive.
    """

    scenarios: tuple[ScenarioName, ...] = SCENARIOS
    workloads: WorkloadOptions = field(default_factory=WorkloadOptions)
    budget: Budget = field(default_factory=Budget)
    rates: tuple[float, ...] = ()
    concurrency: Concurrency = field(default_factory=Concurrency)
    peak_seconds: float = PEAK_SECONDS

    def __post_init__(self) -> None:
        for scenario in self.scenarios:
            check_choice("scenario", scenario, ScenarioName)
        Arrivals(self.rates)


def run_scenarios(
    artifact: str | Path, options: ScenarioOptions | None = None, *, report: Report = silent, **load_options: Any
) -> Result:
    """Measure an artifact in every scenario on every workload.

    Args:
        artifact: its folder.
        options: what to measure.
        report: called with messages about the progress.
        load_options: further arguments of ``Reranker.load``.

    Raises:
        ModernRankError: the artifact cannot be loaded, or a workload cannot be made.

    >>> from modernrank.benchmarks.measure.scenarios import Budget
    >>> options = ScenarioOptions(("single",), WorkloadOptions(lengths=(64,)), Budget(0, samples=4), peak_seconds=0.01)
    >>> result = run_scenarios(TINY, options)                                    # an artifact's folder
    >>> [(m.scenario, m.tokens_per_pair, len(m.seconds)) for m in result.measurements]
    [('single', 64, 4)]
    """
    options = options or ScenarioOptions()
    with Reranker.load(artifact, **load_options) as reranker:
        subject = Subject(Artifact.open(artifact), reranker, load_options)
        _check_lengths(options.workloads.lengths, subject.artifact)
        workloads = make_workloads(options.workloads, subject.artifact.encoder().count)
        environment = describe_run([subject.artifact], options.workloads.seed)
        environment["peak"] = _cpu_peaks(options.peak_seconds, report) if reranker.info.provider == CPU else {}
        measurements: list[Measurement] = []
        for workload in workloads:
            for scenario in options.scenarios:
                measurements += _measure(scenario, subject, workload, options, report)
    return Result(environment, measurements)


def _measure(
    scenario: ScenarioName, subject: Subject, workload: Workload, options: ScenarioOptions, report: Report
) -> list[Measurement]:
    seed, budget = options.workloads.seed, options.budget
    if scenario == "server":
        arrivals = Arrivals(options.rates or _loads(subject, workload, LOADS, report), seed)
        return list(concurrent.server(subject, workload, arrivals, budget, report))
    if scenario == "mixed":
        arrivals = Arrivals(options.rates or _loads(subject, workload, (MIXED_LOAD,), report), seed)
        return list(concurrent.mixed(subject, workload, arrivals, options.concurrency, budget, report))
    if scenario == "callers":
        return list(concurrent.callers(subject, workload, options.concurrency, budget, report))
    measure = {
        "query": scenarios.query,
        "single": scenarios.single,
        "offline": scenarios.offline,
        "cold": scenarios.cold,
    }[scenario]
    return [measure(subject, workload, budget, report)]


def _loads(subject: Subject, workload: Workload, shares: tuple[float, ...], report: Report) -> tuple[float, ...]:
    """Shares of the capacity, which is measured, as queries per second."""
    alone = scenarios.query(subject, workload, CAPACITY_BUDGET, report)
    return tuple(round(share / alone.median, 3) for share in shares)


@dataclass(frozen=True)
class PeersOptions:
    """What ``run_peers`` measures.

    workloads:    which pairs are scored.
    peers:        names of the peers; empty for all that run on the device of ``PeerSetup``.
    rounds:       number of samples of each contender.
    peak_seconds: how long each rate of the machine's matrix products is measured.

    Raises:
        InputError: ``rounds`` is not a whole number of at least 1.
    """

    workloads: WorkloadOptions = field(default_factory=WorkloadOptions)
    peers: tuple[str, ...] = ()
    rounds: int = ROUNDS
    peak_seconds: float = PEAK_SECONDS

    def __post_init__(self) -> None:
        positive("rounds", self.rounds)


def run_peers(
    artifacts: Sequence[str | Path],
    setup: PeerSetup,
    options: PeersOptions | None = None,
    *,
    report: Report = silent,
    **load_options: Any,
) -> Result:
    """Measure every precision of every artifact and peers on the same checkpoint, in turns.

    Args:
        artifacts: their folders.
        setup: what peers run, and where. Artifacts run on the same number of threads.
        options: what to measure.
        report: called with messages about the progress.
        load_options: arguments of ``Reranker.load`` for the artifacts, besides ``precision`` and ``threads``.

    Raises:
        ModernRankError: an artifact cannot be opened, a workload cannot be made, or a peer is unknown. A peer that
            fails stays in the result, with its error.
    """
    options = options or PeersOptions()
    opened = [Artifact.open(folder) for folder in artifacts]
    for artifact in opened:
        _check_lengths(options.workloads.lengths, artifact)
    count_tokens = opened[0].encoder().count
    workloads = make_workloads(options.workloads, count_tokens)
    for_ours = {**load_options, "threads": setup.threads}
    contenders = [contender for artifact in opened for contender in our_contenders(artifact, for_ours)]
    contenders += [peer_contender(name, setup, report) for name in options.peers or peer_names(setup.device)]
    environment = describe_run(opened, options.workloads.seed)
    environment["peak"] = _peaks(setup.device, options.peak_seconds, report)
    measurements: list[Measurement] = []
    for workload in workloads:
        measurements += take_turns(contenders, workload, count_tokens, options.rounds, report)
    return Result(environment, measurements)


def run_versions(
    artifact: str | Path,
    commits: Sequence[str],
    options: PeersOptions | None = None,
    *,
    earlier_artifact: str | Path | None = None,
    folder: Path = PEER_FOLDER,
    report: Report = silent,
    **load_options: Any,
) -> Result:
    """Measure this version of modernrank and earlier commits, in turns.

    Args:
        artifact: its folder.
        commits: names that git knows.
        options: what to measure; it has no peers.
        earlier_artifact: what the commits run instead of ``artifact``: one that an earlier version exported.
        folder: keeps the sources of the commits.
        report: called with messages about the progress.
        load_options: arguments of ``Reranker.load``, which all versions must take.

    Raises:
        ModernRankError: the artifact cannot be opened, or git does not know a commit.
    """
    options = options or PeersOptions()
    opened = Artifact.open(artifact)
    _check_lengths(options.workloads.lengths, opened)
    precision = load_options.pop("precision", "auto")
    if precision == "auto":
        precision = opened.manifest.graphs[0].precision
    earlier = None if earlier_artifact is None else Artifact.open(earlier_artifact)
    contenders = versions(opened, precision, list(commits), folder, load_options, earlier)
    count_tokens = opened.encoder().count
    measurements: list[Measurement] = []
    for workload in make_workloads(options.workloads, count_tokens):
        measurements += take_turns(contenders, workload, count_tokens, options.rounds, report)
    return Result(describe_run([opened], options.workloads.seed), measurements)


def _check_lengths(lengths: Sequence[int], artifact: Artifact) -> None:
    """Refuse lengths that the model would cut, because the result would name tokens that were never scored."""
    limit = artifact.manifest.max_length
    for length in lengths:
        if length > limit:
            raise InputError(
                f"pairs of {length} tokens exceed the {limit} that {artifact.manifest.name} accepts; choose a shorter "
                "length",
                argument="lengths",
                value=length,
                limit=limit,
            )


def _peaks(device: str, seconds: float, report: Report) -> dict[str, float]:
    """The rates of matrix products on a device of torch, billions of operations per second, by precision."""
    return _cpu_peaks(seconds, report) if device == CPU else machine_peak.gpu_peak(device, 2 * seconds)


def _cpu_peaks(seconds: float, report: Report) -> dict[str, float]:
    report("measuring the peak rate of matrix products")
    return machine_peak.cpu_peaks(seconds)


def describe_run(artifacts: Sequence[Artifact], seed: int) -> dict[str, Any]:
    """The environment of this process, and the artifacts with the hashes of their files."""
    return describe(seed) | {
        "artifacts": [
            {
                "name": artifact.manifest.name,
                "source": artifact.manifest.source.files,
                "files": {name: record.sha256 for name, record in artifact.manifest.files.items()},
            }
            for artifact in artifacts
        ]
    }

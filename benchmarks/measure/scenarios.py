"""How calls arrive, as in MLPerf: one after the other, all at once, or in a new process; ``concurrent.py`` has others.

Each scenario warms up, runs for a minimum time and a minimum number of calls, keeps every sample, and returns a
``Measurement``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modernrank import ModernRankError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.benchmarks.defaults import SAMPLES, SECONDS
from modernrank.benchmarks.op_counts import flops_per_token
from modernrank.benchmarks.peers.peer_process import peak_memory
from modernrank.benchmarks.reporting.result import Measurement, Parameters
from modernrank.errors import InputError
from modernrank.export.report import Report
from modernrank.options import positive
from modernrank.text.checks import Pair

from .environment import reset_peak_memory
from .workload import Workload

SECONDS_BETWEEN_REPORTS = 2.0


@dataclass(frozen=True)
class Budget:
    """How long a measurement lasts: at least ``seconds``, and at least ``samples`` calls.

    Raises:
        InputError: ``seconds`` is negative, or ``samples`` is not a whole number of at least 1.
    """

    seconds: float = SECONDS
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        positive("samples", self.samples)
        if not self.seconds >= 0:
            raise InputError(f"seconds is {self.seconds}; the minimum is 0", argument="seconds", value=self.seconds)


@dataclass(frozen=True)
class Subject:
    """The artifact that is measured, loaded.

    load_options: the arguments of ``Reranker.load`` with which it was loaded, for scenarios that load it again.
    """

    artifact: Artifact
    reranker: Reranker
    load_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The contender's name: the precision, and the provider unless it is the CPU."""
        info = self.reranker.info
        return f"modernrank {info.precision}{'' if info.provider == 'cpu' else ' ' + info.provider}"

    def measurement(self, scenario: str, workload: Workload, **fields: Any) -> Measurement:
        """A measurement of this subject."""
        info = self.reranker.info
        return Measurement(
            self.name,
            scenario,
            workload.name,
            ours=True,
            precision=info.precision,
            provider=info.provider,
            tokens_per_pair=workload.tokens_per_pair,
            flops_per_token=flops_per_token(self.artifact, info.precision, info.graph),
            runtime=dataclasses.asdict(info),
            **fields,
        )


@dataclass(frozen=True)
class _Calls:
    """What a scenario calls: lists of pairs, which are parts of a workload."""

    scenario: str
    workload: Workload
    calls: list[list[Pair]]
    parameters: Parameters


@dataclass(frozen=True)
class _Samples:
    """``seconds`` of each call that was made, and its ``indices`` in ``_Calls.calls``."""

    indices: list[int]
    seconds: list[float]


def query(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """Call with one query and its documents, one call after the other: the latency of the whole call."""
    documents = max(len(group) for group in workload.queries)
    calls = _Calls("query", workload, workload.queries, {"documents": documents})
    return _one_after_the_other(subject, calls, budget, report)


def single(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """Call with one pair, one call after the other: the latency of a pair."""
    return _one_after_the_other(subject, _Calls("single", workload, [[p] for p in workload.pairs], {}), budget, report)


def offline(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """Call with all pairs: the throughput."""
    calls = _Calls("offline", workload, [workload.pairs], {"pairs": len(workload.pairs)})
    return _one_after_the_other(subject, calls, budget, report)


def _one_after_the_other(subject: Subject, calls: _Calls, budget: Budget, report: Report) -> Measurement:
    def make_calls(begun: float) -> _Samples:
        samples = _Samples([], [])
        reported = begun
        for index in itertools.cycle(range(len(calls.calls))):
            start = time.perf_counter()
            subject.reranker.score(calls.calls[index])
            now = time.perf_counter()
            samples.indices.append(index)
            samples.seconds.append(now - start)
            if len(samples.seconds) >= budget.samples and now - begun >= budget.seconds:
                break
            if now - reported > SECONDS_BETWEEN_REPORTS:
                reported = now
                report(
                    f"{subject.name}, {calls.scenario}, {calls.workload.name}: {len(samples.seconds)} calls, "
                    f"the last took {samples.seconds[-1]:.3f} s"
                )
        return samples

    subject.reranker.score([pair for call in calls.calls for pair in call])
    return _measure(subject, calls, make_calls)


def _measure(subject: Subject, calls: _Calls, make_calls: Callable[[float], _Samples]) -> Measurement:
    """Make the calls and record what they took. ``make_calls`` takes the time at which it begins."""
    reranker = subject.reranker
    plans = [reranker.plan(call) for call in calls.calls]
    counts_memory = reset_peak_memory()
    before, begun = reranker.times, time.perf_counter()
    samples = make_calls(begun)
    elapsed = time.perf_counter() - begun
    return subject.measurement(
        calls.scenario,
        calls.workload,
        parameters=calls.parameters,
        pairs=sum(len(calls.calls[i]) for i in samples.indices),
        tokens=sum(plans[i].pair_tokens for i in samples.indices),
        seconds=samples.seconds,
        elapsed=elapsed,
        padding=1 - sum(plan.pair_tokens for plan in plans) / sum(plan.computed_tokens for plan in plans),
        stages=dataclasses.asdict(reranker.times - before),
        peak_memory=peak_memory() if counts_memory else None,
    )


# Scores one pair in a new process, and times each part. The page cache is warm, because a run before the first sample
# has read the files.
COLD = """
import json, sys, time
start = time.perf_counter()
from modernrank import Reranker
imported = time.perf_counter()
reranker = Reranker.load(sys.argv[1], **json.loads(sys.argv[2]))
loaded = time.perf_counter()
reranker.score([tuple(json.loads(sys.argv[3]))])
scored = time.perf_counter()
print(json.dumps({"import": imported - start, "load": loaded - imported, "first_score": scored - loaded}))
"""


def cold(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """Start a new process and score the first pair in it, ``budget.samples`` times after one for the page cache.

    Raises:
        ModernRankError: the process failed.
    """
    info, pair = subject.reranker.info, workload.pairs[0]
    load_options = {**subject.load_options, "provider": info.provider, "precision": info.precision}
    arguments = [str(subject.artifact.folder), json.dumps(load_options, default=str), json.dumps(pair)]
    _start_and_score(arguments)
    seconds: list[float] = []
    parts: list[dict[str, float]] = []
    begun = time.perf_counter()
    for number in range(1, budget.samples + 1):
        start = time.perf_counter()
        parts.append(_start_and_score(arguments))
        seconds.append(time.perf_counter() - start)
        report(f"{subject.name}, cold: {number} of {budget.samples}, {seconds[-1]:.2f} s")
    return subject.measurement(
        "cold",
        workload,
        pairs=len(seconds),
        tokens=len(seconds) * subject.reranker.plan([pair]).pair_tokens,
        seconds=seconds,
        elapsed=time.perf_counter() - begun,
        details={"parts": parts},
    )


def _start_and_score(arguments: list[str]) -> dict[str, float]:
    """Seconds of each part of ``COLD``."""
    done = subprocess.run([sys.executable, "-c", COLD, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ModernRankError(f"a new process could not score a pair: {done.stderr.strip().splitlines()[-1]}")
    parts: dict[str, float] = json.loads(done.stdout)
    return parts

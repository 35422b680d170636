"""How calls arrive, as in MLPerf: one after the other, all at once, by chance while others are at work, or cold.

Each scenario warms up what it will measure, runs for a minimum time and a minimum count, keeps every sample, and
gives a ``Measurement``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modernrank import ModernRankError, Reranker
from modernrank.benchmarks.reporting.result import Measurement, Parameters
from modernrank.text.checks import Pair

from .environment import peak_memory, reset_peak_memory
from .workload import Workload

Report = Callable[[str], None]
# Queries that the server scenario answers at once; more wait, as in any service.
CALLERS = 64
SECONDS_BETWEEN_REPORTS = 2.0


@dataclass(frozen=True)
class Budget:
    """How long a measurement goes on: at least ``seconds`` and at least ``samples`` calls."""

    seconds: float = 10.0
    samples: int = 10


@dataclass(frozen=True)
class Subject:
    """What is measured, and the name it has in the result."""

    name: str
    reranker: Reranker

    @staticmethod
    def of(reranker: Reranker) -> Subject:
        """Named by precision, and by provider where that is not the CPU."""
        info = reranker.info
        return Subject(f"modernrank {info.precision}{'' if info.provider == 'cpu' else ' ' + info.provider}", reranker)


def query(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """One query with its documents a call, the next when the last is answered: the latency of the whole call."""
    documents = max(len(group) for group in workload.queries)
    return _one_after_the_other("query", subject, workload, workload.queries, {"documents": documents}, budget, report)


def single(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """One pair a call: the latency of a pair."""
    return _one_after_the_other("single", subject, workload, [[p] for p in workload.pairs], {}, budget, report)


def offline(subject: Subject, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """All pairs in one call: the throughput."""
    pairs = workload.pairs
    return _one_after_the_other("offline", subject, workload, [pairs], {"pairs": len(pairs)}, budget, report)


def _one_after_the_other(
    scenario: str,
    subject: Subject,
    workload: Workload,
    calls: list[list[Pair]],
    parameters: Parameters,
    budget: Budget,
    report: Report,
) -> Measurement:
    reranker = subject.reranker
    plans = [reranker.plan(call) for call in calls]
    reset = reset_peak_memory()
    reranker.score([pair for call in calls for pair in call])  # every shape once
    before, begun = reranker.times, time.perf_counter()
    seconds: list[float] = []
    taken = []
    told = begun
    for number, call in enumerate(itertools.cycle(calls), start=1):
        start = time.perf_counter()
        reranker.score(call)
        seconds.append(time.perf_counter() - start)
        taken.append((number - 1) % len(calls))
        if number >= budget.samples and time.perf_counter() - begun >= budget.seconds:
            break
        if time.perf_counter() - told > SECONDS_BETWEEN_REPORTS:
            told = time.perf_counter()
            report(f"{subject.name}, {scenario}, {workload.name}: {number} calls, the last {seconds[-1]:.3f} s")
    return Measurement(
        subject.name,
        scenario,
        workload.name,
        parameters,
        pairs=sum(len(calls[i]) for i in taken),
        tokens=sum(plans[i].pair_tokens for i in taken),
        seconds=seconds,
        elapsed=time.perf_counter() - begun,
        padding=_padding(plans),
        stages=dataclasses.asdict(reranker.times - before),
        peak_memory=peak_memory() if reset else None,
        runtime=dataclasses.asdict(reranker.info),
    )


def _padding(plans: Iterable[object]) -> float:
    pair_tokens = sum(plan.pair_tokens for plan in plans)  # type: ignore[attr-defined]
    computed = sum(plan.computed_tokens for plan in plans)  # type: ignore[attr-defined]
    return 1 - pair_tokens / computed


def server(
    subject: Subject, workload: Workload, rates: list[float], budget: Budget, seed: int, report: Report
) -> Iterator[Measurement]:
    """Queries arrive by chance at each of ``rates`` (a second, Poisson), whether or not earlier ones are answered.

    A query's latency counts from its arrival, waiting included. The arrivals of a rate are drawn from ``seed``, so
    that two runs, or two versions, meet the same.
    """
    reranker = subject.reranker
    plans = [reranker.plan(call) for call in workload.queries]
    reranker.score(workload.pairs)
    for rate in rates:
        reset = reset_peak_memory()
        chance = random.Random(f"{seed} {rate}")
        count = max(budget.samples, round(rate * budget.seconds))
        due = list(itertools.accumulate(chance.expovariate(rate) for _ in range(count)))
        chosen = [chance.randrange(len(workload.queries)) for _ in due]
        report(f"{subject.name}, server, {workload.name}: {count} queries at {rate:.2f} a second")
        before, begun = reranker.times, time.perf_counter()

        def answer(arrival: float, index: int, begun: float = begun) -> float:
            reranker.score(workload.queries[index])
            return time.perf_counter() - begun - arrival

        with ThreadPoolExecutor(CALLERS) as callers:
            waiting = []
            for arrival, index in zip(due, chosen, strict=True):
                time.sleep(max(0.0, begun + arrival - time.perf_counter()))
                waiting.append(callers.submit(answer, arrival, index))
            seconds = [future.result() for future in waiting]
        yield Measurement(
            subject.name,
            "server",
            workload.name,
            {"rate": round(rate, 3)},
            pairs=sum(len(workload.queries[i]) for i in chosen),
            tokens=sum(plans[i].pair_tokens for i in chosen),
            seconds=seconds,
            elapsed=time.perf_counter() - begun,
            padding=_padding(plans),
            stages=dataclasses.asdict(reranker.times - before),
            peak_memory=peak_memory() if reset else None,
            runtime=dataclasses.asdict(reranker.info),
        )


def rate_within(measurements: list[Measurement], p99_bound: float) -> float | None:
    """The highest rate of server measurements whose 99th percentile is known and at most ``p99_bound`` seconds."""
    return max(
        (float(m.parameters["rate"]) for m in measurements if m.percentiles.get("p99", float("inf")) <= p99_bound),
        default=None,
    )


# What a new process does until it has scored one pair; each part on a clock. The page cache is warm: the runs before
# have read the files.
COLD = """
import json, sys, time
start = time.perf_counter()
from modernrank import Reranker
imported = time.perf_counter()
options = json.loads(sys.argv[2])
reranker = Reranker.load(sys.argv[1], **options)
loaded = time.perf_counter()
reranker.score([tuple(json.loads(sys.argv[3]))])
scored = time.perf_counter()
print(json.dumps({"import": imported - start, "load": loaded - imported, "first_score": scored - loaded}))
"""


def cold(subject: Subject, artifact: Path, workload: Workload, budget: Budget, report: Report) -> Measurement:
    """From the start of a new process to its first score: ``budget.samples`` times, after one for the page cache."""
    info = subject.reranker.info
    options = {name: getattr(info, name) for name in ("provider", "precision", "threads", "workers")}
    pair = workload.pairs[0]
    command = [sys.executable, "-c", COLD, str(artifact), json.dumps(options), json.dumps(pair)]
    seconds: list[float] = []
    parts: list[dict[str, float]] = []
    begun = 0.0
    for number in range(budget.samples + 1):
        if number == 1:
            begun = time.perf_counter()
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        taken = time.perf_counter() - start
        if done.returncode:
            raise ModernRankError(f"a new process could not score a pair: {done.stderr.strip().splitlines()[-1]}")
        if number:
            seconds.append(taken)
            parts.append(json.loads(done.stdout))
            report(f"{subject.name}, cold: {number} of {budget.samples}, {taken:.2f} s")
    return Measurement(
        subject.name,
        "cold",
        workload.name,
        pairs=len(seconds),
        tokens=len(seconds) * subject.reranker.plan([pair]).pair_tokens,
        seconds=seconds,
        elapsed=time.perf_counter() - begun,
        runtime=dataclasses.asdict(info),
        details={"parts": parts},
    )

"""Scenarios of several callers at once, as in a service: queries go through ``AsyncReranker``, lists through ``score``.

server   queries arrive at random times, at several rates
mixed    queries arrive at random times beside a caller that scores endless lists
callers  many callers, each with one query after the other

Each measurement of ``mixed`` and ``callers`` takes turns with its baseline, since these machines are noisy.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field

from modernrank import AsyncReranker, Reranker, StageTimes
from modernrank.benchmarks.defaults import CALLERS
from modernrank.benchmarks.reporting.result import Measurement, Parameters
from modernrank.errors import InputError
from modernrank.export.report import Report
from modernrank.options import positive
from modernrank.queue.urgency import Urgency
from modernrank.text.checks import Pair

from .environment import reset_peak_memory
from .scenarios import Budget, Subject
from .workload import Workload

ROUNDS = 3  # of each measurement and its baseline, in turns
HEARTBEAT = 0.001  # seconds between two beats of the event loop
# Shares of the beats of the event loop that were at most so late.
LATENESS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True)
class Arrivals:
    """When queries arrive in the server and the mixed scenario.

    rates: queries per second. The server scenario measures each of them, the mixed scenario only the first.
    seed:  of the random times and queries. The same seed gives the same ones.

    Raises:
        InputError: a rate is not positive.
    """

    rates: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        for rate in self.rates:
            if not rate > 0:
                raise InputError(f"a rate is {rate}; it must be above 0", argument="rate", value=rate)

    def queries(self, rate: float, count: int, kinds: int) -> list[tuple[float, int]]:
        """The second of each arrival (Poisson), and which of ``kinds`` queries arrives."""
        generator = random.Random(f"{self.seed} {rate}")
        due = itertools.accumulate(generator.expovariate(rate) for _ in range(count))
        return [(second, generator.randrange(kinds)) for second in due]


@dataclass(frozen=True)
class Concurrency:
    """The other callers.

    callers:       number of callers in the callers scenario.
    list_priority: priority of the lists of the mixed scenario; its queries have priority 0.

    Raises:
        InputError: a number is out of its range.
    """

    callers: int = CALLERS
    list_priority: int = 0

    def __post_init__(self) -> None:
        positive("callers", self.callers)
        Urgency.of(self.list_priority)


@dataclass
class _Samples:
    """What was measured of one class of calls, over all its rounds.

    seconds:   latency of each call; for endless lists the mean seconds per pair of each round.
    indices:   the query of each call.
    pairs:     that were scored.
    elapsed:   seconds in all.
    heartbeat: seconds by which each beat of the event loop came late.
    """

    seconds: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    pairs: int = 0
    elapsed: float = 0.0
    heartbeat: list[float] = field(default_factory=list)


def server(
    subject: Subject, workload: Workload, arrivals: Arrivals, budget: Budget, report: Report
) -> Iterator[Measurement]:
    """Call with one query and its documents at random times, whether or not earlier calls have returned.

    The latency of a query counts from its arrival and so includes waiting.
    """
    subject.reranker.score(workload.pairs)
    for rate in arrivals.rates:
        queries = arrivals.queries(rate, _count(budget, rate), len(workload.queries))
        report(f"{subject.name}, server, {workload.name}: {len(queries)} queries, {rate:.2f} per second")
        samples = _Samples()
        reset_peak_memory()
        before = subject.reranker.times
        asyncio.run(_call_at_arrivals(subject.reranker, workload, queries, samples))
        yield _measurement(
            subject, "server", workload, {"rate": round(rate, 3)}, samples, subject.reranker.times - before
        )


def mixed(
    subject: Subject,
    workload: Workload,
    arrivals: Arrivals,
    concurrency: Concurrency,
    budget: Budget,
    report: Report,
) -> Iterator[Measurement]:
    """Queries at random times beside a caller that scores endless lists: the latency of queries, the rate of lists.

    In each round the queries come alone, the lists come alone, and both come together. A list has all pairs of the
    workload.
    """
    reranker, rate = subject.reranker, arrivals.rates[0]
    reranker.score(workload.pairs)
    queries = arrivals.queries(rate, _count(budget, rate), len(workload.queries))
    short, long, short_beside, long_beside = (_Samples() for _ in range(4))
    for number, part in enumerate(_parts(queries, ROUNDS), start=1):
        report(f"{subject.name}, mixed, {workload.name}: round {number} of {ROUNDS}, {len(part)} queries")
        asyncio.run(_call_at_arrivals(reranker, workload, part, short))
        with _Lists(reranker, workload.pairs, concurrency.list_priority, long):
            time.sleep(part[-1][0])
        with _Lists(reranker, workload.pairs, concurrency.list_priority, long_beside) as beside:
            asyncio.run(_call_at_arrivals(reranker, workload, part, short_beside))
            beside.pairs_of_others = sum(len(workload.queries[index]) for _, index in part)
    for samples, parameters in (
        (short, {"class": "queries", "beside": "nothing"}),
        (long, {"class": "lists", "beside": "nothing"}),
        (short_beside, {"class": "queries", "beside": "lists"}),
        (long_beside, {"class": "lists", "beside": "queries"}),
    ):
        more: Parameters = {"rate": round(rate, 3), "list priority": concurrency.list_priority}
        yield _measurement(subject, "mixed", workload, {**parameters, **more}, samples)


def callers(
    subject: Subject, workload: Workload, concurrency: Concurrency, budget: Budget, report: Report
) -> Iterator[Measurement]:
    """Many callers, each with one query after the other, and in turns with them one caller with all pairs as a list."""
    reranker = subject.reranker
    reranker.score(workload.pairs)
    one, many = _Samples(), _Samples()
    for number in range(1, ROUNDS + 1):
        report(f"{subject.name}, callers, {workload.name}: round {number} of {ROUNDS}")
        _one_list(reranker, workload, one)
        asyncio.run(_call_in_parallel(reranker, workload, concurrency.callers, budget.seconds / ROUNDS, many))
    yield _measurement(subject, "callers", workload, {"callers": 1}, one)
    yield _measurement(subject, "callers", workload, {"callers": concurrency.callers}, many)


async def _call_at_arrivals(
    reranker: Reranker, workload: Workload, queries: list[tuple[float, int]], samples: _Samples
) -> None:
    """Start a call for each query when it is due, and wait for all."""
    shared = AsyncReranker(reranker)
    begun = time.perf_counter()

    async def answer(due: float, index: int) -> None:
        await shared.score(workload.queries[index])
        samples.seconds.append(time.perf_counter() - begun - due)
        samples.indices.append(index)
        samples.pairs += len(workload.queries[index])

    async def all_queries() -> None:
        async with asyncio.TaskGroup() as calls:
            for due, index in queries:
                await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
                calls.create_task(answer(due, index))

    await _with_heartbeat(all_queries(), samples.heartbeat)
    samples.elapsed += time.perf_counter() - begun
    await shared.close()


async def _call_in_parallel(
    reranker: Reranker, workload: Workload, count: int, seconds: float, samples: _Samples
) -> None:
    """``count`` callers for so many seconds, each of which takes the next query when its last one is answered."""
    shared = AsyncReranker(reranker)
    numbers = itertools.cycle(range(len(workload.queries)))
    begun = time.perf_counter()

    async def caller() -> None:
        while (start := time.perf_counter()) < begun + seconds:
            index = next(numbers)
            await shared.score(workload.queries[index])
            samples.seconds.append(time.perf_counter() - start)
            samples.indices.append(index)
            samples.pairs += len(workload.queries[index])

    async def all_callers() -> None:
        await asyncio.gather(*(caller() for _ in range(count)))

    await _with_heartbeat(all_callers(), samples.heartbeat)
    samples.elapsed += time.perf_counter() - begun
    await shared.close()


async def _with_heartbeat(work: Awaitable[None], late: list[float]) -> None:
    """Do ``work``, and note meanwhile by how much each beat of the event loop comes late."""

    async def beat() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(HEARTBEAT)
            late.append(time.perf_counter() - start - HEARTBEAT)

    heart = asyncio.create_task(beat())
    try:
        await work
    finally:
        heart.cancel()


def _one_list(reranker: Reranker, workload: Workload, samples: _Samples) -> None:
    start = time.perf_counter()
    reranker.score(workload.pairs)
    samples.seconds.append(time.perf_counter() - start)
    samples.elapsed += samples.seconds[-1]
    samples.pairs += len(workload.pairs)
    samples.indices += range(len(workload.queries))


class _Lists:
    """A thread that scores lists. Pairs are counted until the end of the ``with`` block, and the last list is finished.

    ``pairs_of_others``: those of queries that were scored meanwhile, which do not count.
    """

    def __init__(self, reranker: Reranker, pairs: list[Pair], priority: int, samples: _Samples) -> None:
        self.pairs_of_others = 0
        self._reranker, self._pairs, self._priority, self._samples = reranker, pairs, priority, samples
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> _Lists:
        self._thread.start()
        while not self._reranker.metrics.running:
            time.sleep(0.001)  # until the first list is tokenised
        self._before, self._begun = self._reranker.metrics.pairs, time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        pairs = self._reranker.metrics.pairs - self._before - self.pairs_of_others
        self._samples.pairs += pairs
        elapsed = time.perf_counter() - self._begun
        self._samples.elapsed += elapsed
        self._samples.seconds.append(elapsed / max(1, pairs))
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.is_set():
            self._reranker.score(self._pairs, priority=self._priority)


def _measurement(
    subject: Subject,
    scenario: str,
    workload: Workload,
    parameters: Parameters,
    samples: _Samples,
    stages: StageTimes | None = None,
) -> Measurement:
    lengths = [subject.reranker.plan(query).pair_tokens for query in workload.queries]
    details: dict[str, float | None] = {"estimate_error": subject.reranker.metrics.estimate_error}
    if samples.heartbeat:
        late = sorted(samples.heartbeat)
        details |= {f"loop late {name}": late[min(len(late) - 1, int(x * len(late)))] for name, x in LATENESS.items()}
    mean_tokens = sum(lengths) / len(workload.pairs)
    return subject.measurement(
        scenario,
        workload,
        parameters=parameters,
        pairs=samples.pairs,
        tokens=sum(lengths[i] for i in samples.indices) if samples.indices else round(samples.pairs * mean_tokens),
        seconds=samples.seconds,
        elapsed=samples.elapsed,
        stages=dataclasses.asdict(stages) if stages else {},
        details=details,
    )


def _count(budget: Budget, rate: float) -> int:
    return max(budget.samples, round(rate * budget.seconds))


def _parts(queries: list[tuple[float, int]], count: int) -> Iterator[list[tuple[float, int]]]:
    """The arrivals in ``count`` parts, each of which begins at 0."""
    size = -(-len(queries) // count)
    for start in range(0, len(queries), size):
        begun = queries[start - 1][0] if start else 0.0
        yield [(due - begun, index) for due, index in queries[start : start + size]]


def rate_within(measurements: list[Measurement], p99_bound: float) -> float | None:
    """The highest rate of server measurements with a 99th percentile of at most ``p99_bound`` seconds.

    None if there is none; a measurement of fewer than 100 samples has no 99th percentile.
    """
    return max(
        (
            float(m.parameters["rate"])
            for m in measurements
            if m.scenario == "server" and m.percentiles.get("p99", float("inf")) <= p99_bound
        ),
        default=None,
    )

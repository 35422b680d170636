"""Rerank servers under load, in turns with each other and with the model that they serve.

alone      one client, one request after the other: the time of a request
saturated  as many clients as are asked for, each with one request after the other: the throughput
open       requests arrive at random times at a share of a server's own throughput, whether or not earlier ones have
           been answered. Latency counts from the arrival, so a server that falls behind cannot hide it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.benchmarks.reporting.result import Measurement, Parameters
from modernrank.errors import BackendError, InputError
from modernrank.export.report import Report
from modernrank.options import positive

from .concurrent import Arrivals
from .http_client import Address, Connection, request, scores
from .scenarios import Subject
from .workload import Workload

# A connection for each request that is on its way at the same time in an open loop; more wait for one, as in a pool.
OPEN_CONNECTIONS = 256


@dataclass(frozen=True)
class ServingOptions:
    """How servers are measured.

    clients: of the saturated load.
    loads:   shares of a server's own throughput at which requests arrive.
    rounds:  how often each measurement takes its turn.
    seconds: of each turn.
    seed:    of the arrivals.

    Raises:
        InputError: a number is out of its range.
    """

    clients: int = 16
    loads: tuple[float, ...] = (0.5,)
    rounds: int = 3
    seconds: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        positive("clients", self.clients)
        positive("rounds", self.rounds)
        for load in self.loads:
            if not 0 < load < 1:
                raise InputError(f"a load is {load}; give shares between 0 and 1", argument="load", value=load)


@dataclass(frozen=True)
class Server:
    """A server that runs on this machine, by a name that is shown."""

    name: str
    address: Address
    ours: bool = False


@dataclass
class Samples:
    """Seconds of each request, the requests themselves, and the time of all."""

    seconds: list[float] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    elapsed: float = 0.0

    def rate(self) -> float:
        """Requests per second."""
        return len(self.seconds) / self.elapsed


@dataclass
class Target:
    """A server, its requests, and its samples by load."""

    server: Server
    requests: list[bytes]
    alone: Samples = field(default_factory=Samples)
    saturated: Samples = field(default_factory=Samples)
    open: dict[float, Samples] = field(default_factory=dict)
    fidelity: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def measure_servers(
    subject: Subject, workload: Workload, servers: Sequence[Server], options: ServingOptions, report: Report
) -> list[Measurement]:
    """Measure servers that serve the same model, and the model itself in this process, in turns."""
    tested = [Target(server, [request(server.address, query) for query in workload.queries]) for server in servers]
    reference = subject.reranker.score(workload.pairs, activation="sigmoid")
    for item in tested:
        item.fidelity = {"largest_difference": float(np.abs(asyncio.run(_scores(item)) - reference).max())}
    calls, lists = Samples(), Samples()
    for number in range(1, options.rounds + 1):
        report(f"round {number} of {options.rounds}: the model alone")
        _call(subject, workload, options.seconds, calls)
        _call_with_all(subject, workload, options.seconds, lists)
        for item in tested:
            if not item.error:
                _take_turn(item, options, report, number)
    found = [
        _of_model(subject, workload, "alone", calls),
        _of_model(subject, workload, "lists", lists),
    ]
    for item in tested:
        loads = {"alone": item.alone, f"{options.clients} clients": item.saturated}
        loads |= {f"open, {load:g} of its throughput": samples for load, samples in item.open.items()}
        found += [_of_server(subject, workload, item, load, samples) for load, samples in loads.items()]
    return found


def _take_turn(item: Target, options: ServingOptions, report: Report, number: int) -> None:
    try:
        asyncio.run(_round(item, options, report, number))
    except (OSError, EOFError, BackendError, ExceptionGroup) as error:  # the result keeps what others did
        item.error = f"{type(error).__name__}: {error}"
        report(f"{item.server.name} failed: {item.error}")


async def _round(item: Target, options: ServingOptions, report: Report, number: int) -> None:
    name = item.server.name
    report(f"round {number} of {options.rounds}: {name}, alone")
    await _closed_loop(item, 1, options.seconds, item.alone)
    report(f"round {number} of {options.rounds}: {name}, {options.clients} clients")
    await _closed_loop(item, options.clients, options.seconds, item.saturated)
    for load in options.loads:
        rate = load * item.saturated.rate()
        report(f"round {number} of {options.rounds}: {name}, {rate:.1f} requests per second")
        arrivals = Arrivals((rate,), options.seed + number)
        await open_loop(item, arrivals, options.seconds, item.open.setdefault(load, Samples()))


async def _scores(item: Target) -> FloatArray:
    async with Connection(item.server.address) as connection:
        found = [score for message in item.requests for score in scores(await connection.send(message))]
    return np.array(found, np.float32)


async def _closed_loop(item: Target, clients: int, seconds: float, samples: Samples) -> None:
    numbers = itertools.cycle(range(len(item.requests)))
    begun = time.perf_counter()

    async def client() -> None:
        async with Connection(item.server.address) as connection:
            while (start := time.perf_counter()) < begun + seconds:
                query = next(numbers)
                await connection.send(item.requests[query])
                samples.seconds.append(time.perf_counter() - start)
                samples.queries.append(query)

    await asyncio.gather(*(client() for _ in range(clients)))
    samples.elapsed += time.perf_counter() - begun


async def open_loop(item: Target, arrivals: Arrivals, seconds: float, samples: Samples) -> None:
    """Send requests when they are due, whether or not earlier ones are answered, and add their latencies."""
    (rate,) = arrivals.rates
    queries = arrivals.queries(rate, max(1, math.ceil(rate * seconds)), len(item.requests))
    idle: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
    for _ in range(OPEN_CONNECTIONS):
        idle.put_nowait(None)  # a connection that is opened when it is first needed
    opened: list[Connection] = []
    begun = time.perf_counter()

    async def answer(due: float, query: int) -> None:
        connection = await idle.get()
        if connection is None:
            connection = await Connection(item.server.address).__aenter__()
            opened.append(connection)
        await connection.send(item.requests[query])
        idle.put_nowait(connection)
        samples.seconds.append(time.perf_counter() - begun - due)
        samples.queries.append(query)

    async with asyncio.TaskGroup() as calls:
        for due, query in queries:
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            calls.create_task(answer(due, query))
    samples.elapsed += time.perf_counter() - begun
    for connection in opened:
        await connection.__aexit__()


def _call(subject: Subject, workload: Workload, seconds: float, samples: Samples) -> None:
    begun = time.perf_counter()
    for query in itertools.cycle(range(len(workload.queries))):
        start = time.perf_counter()
        if start > begun + seconds:
            break
        pairs = workload.queries[query]
        subject.reranker.rank(pairs[0][0], [document for _, document in pairs], activation="sigmoid")
        samples.seconds.append(time.perf_counter() - start)
        samples.queries.append(query)
    samples.elapsed += time.perf_counter() - begun


def _call_with_all(subject: Subject, workload: Workload, seconds: float, samples: Samples) -> None:
    begun = time.perf_counter()
    while (start := time.perf_counter()) < begun + seconds:
        subject.reranker.score(workload.pairs)
        samples.seconds.append(time.perf_counter() - start)
        samples.queries += range(len(workload.queries))
    samples.elapsed += time.perf_counter() - begun


def _of_model(subject: Subject, workload: Workload, load: str, samples: Samples) -> Measurement:
    return subject.measurement(
        "serve", workload, parameters=_parameters(workload, load), **_figures(workload, subject, samples)
    )


def _of_server(subject: Subject, workload: Workload, item: Target, load: str, samples: Samples) -> Measurement:
    return Measurement(
        item.server.name,
        "serve",
        workload.name,
        parameters=_parameters(workload, load),
        ours=item.server.ours,
        tokens_per_pair=workload.tokens_per_pair,
        fidelity=item.fidelity,
        details={"rate": samples.rate()} if samples.seconds else {},
        error=item.error,
        **_figures(workload, subject, samples),
    )


def _parameters(workload: Workload, load: str) -> Parameters:
    return {"documents": max(map(len, workload.queries)), "load": load}


def _figures(workload: Workload, subject: Subject, samples: Samples) -> dict[str, Any]:
    tokens = [subject.reranker.plan(query).pair_tokens for query in workload.queries]
    return {
        "pairs": sum(len(workload.queries[query]) for query in samples.queries),
        "tokens": sum(tokens[query] for query in samples.queries),
        "seconds": samples.seconds,
        "elapsed": samples.elapsed,
    }

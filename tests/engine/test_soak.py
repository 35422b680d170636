"""Random load from loops and threads, with cancellations, time-outs and errors: nothing wrong, lost or left behind.

It takes 20 seconds; ``make soak`` takes 10 minutes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest

from modernrank import (
    AsyncReranker,
    BackendError,
    CpuOptions,
    DeadlineError,
    InputError,
    LoadOptions,
    OverloadedError,
    Reranker,
)
from modernrank.arrays import FloatArray
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from modernrank.batching.batch import Batch
from support.backends import Wrapper
from support.memory import resident_bytes
from support.scoring import reranker_of

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
PAUSE = 0.02  # seconds between an error and the next call
QUERIES = [f"query {i} " * (1 + i % 3) for i in range(8)]
DOCUMENTS = [f"notice {i} of the work " * (1 + i % 40) for i in range(250)]
BAD = "a lone surrogate \ud800"
EXPECTED_ERRORS = (BackendError, DeadlineError, InputError, OverloadedError)


class Flaky(Wrapper):
    """Fails in one of 200 runs."""

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        if random.random() < 0.005:
            raise BackendError("this run fails")
        return super().run(batch, side_by_side)


class Load:
    """Random calls, and how they ended."""

    def __init__(self, reranker: Reranker) -> None:
        self.reranker = reranker
        self.scores = {query: reranker.score([(query, document) for document in DOCUMENTS]) for query in QUERIES}
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.wrong = 0
        self.until = time.monotonic() + SECONDS
        self.lock = threading.Lock()

    def draw(self, rng: random.Random) -> tuple[str, list[int]]:
        size = rng.choice([1, 1, 1, 5, 5, 20, 100, 250])
        return rng.choice(QUERIES), rng.sample(range(len(DOCUMENTS)), size)

    def options(self, rng: random.Random) -> dict[str, float | int]:
        timeout = {"timeout": rng.uniform(0.001, 0.3)} if rng.random() < 0.1 else {}
        return {"priority": rng.choice([0, 0, 1, 9]), **timeout}

    def check(self, query: str, indices: list[int], scores: FloatArray) -> None:
        self.wrong += not np.array_equal(scores, self.scores[query][indices])

    def count(self, counter: Counter[str], name: str) -> None:
        with self.lock:
            counter[name] += 1

    def thread(self, seed: int) -> None:
        """Synchronous calls, one after the other."""
        rng = random.Random(seed)
        while time.monotonic() < self.until:
            query, indices = self.draw(rng)
            documents = [DOCUMENTS[index] for index in indices]
            self.count(self.begun, "calls")
            try:
                if rng.random() < 0.05:
                    self.reranker.rank(query, [*documents, BAD])
                elif rng.random() < 0.5:
                    ranking = self.reranker.rank(query, documents, **self.options(rng))  # type: ignore[arg-type]
                    by_index = sorted(ranking, key=lambda place: place.index)
                    self.check(query, indices, np.array([place.score for place in by_index], np.float32))
                else:
                    pairs = [(query, document) for document in documents]
                    self.check(query, indices, self.reranker.score(pairs, **self.options(rng)))  # type: ignore[arg-type]
                self.count(self.ended, "done")
            except EXPECTED_ERRORS as error:
                self.count(self.ended, type(error).__name__)
                time.sleep(PAUSE)

    async def task(self, shared: AsyncReranker, seed: int) -> None:
        """Asynchronous calls, some of which are cancelled."""
        rng = random.Random(seed)
        while time.monotonic() < self.until:
            query, indices = self.draw(rng)
            self.count(self.begun, "calls")
            call = asyncio.ensure_future(self.call(shared, query, indices, rng))
            if rng.random() < 0.15:
                await asyncio.sleep(rng.uniform(0, 0.05))
                call.cancel()
            try:
                await call
                self.count(self.ended, "done")
            except EXPECTED_ERRORS as error:
                self.count(self.ended, type(error).__name__)
                await asyncio.sleep(PAUSE)
            except asyncio.CancelledError:
                self.count(self.ended, "cancelled")

    async def call(self, shared: AsyncReranker, query: str, indices: list[int], rng: random.Random) -> None:
        pairs = [(query, DOCUMENTS[index]) for index in indices]
        kind = rng.random()
        if kind < 0.05:
            await shared.score([*pairs, (query, BAD)])
        elif kind < 0.25:
            stop = rng.randrange(len(pairs)) if rng.random() < 0.3 else len(pairs)
            scores = []
            stream = shared.score_iter(pairs, window=rng.choice([1, 16, 256]))
            async for score in stream:
                scores.append(score)
                if len(scores) == stop:
                    break
            await stream.aclose()  # type: ignore[attr-defined]
            self.check(query, indices[: len(scores)], np.array(scores, np.float32))
        else:
            self.check(query, indices, await shared.score(pairs, **self.options(rng)))  # type: ignore[arg-type]

    def loop(self, shared: AsyncReranker, seed: int) -> None:
        """An event loop of its own with a dozen tasks."""

        async def main() -> None:
            tasks: list[Awaitable[None]] = [self.task(shared, 100 * seed + i) for i in range(12)]
            await asyncio.gather(*tasks)

        asyncio.run(main())


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_random_load(artifacts: Path) -> None:
    threads_before = threading.active_count()
    random.seed(0)
    backend = open_backend(Artifact.open(artifacts / "tiny"), LoadOptions(cpu=CpuOptions(threads=2)))
    with reranker_of(artifacts / "tiny", backend) as quiet:
        load = Load(quiet)
    backend = open_backend(Artifact.open(artifacts / "tiny"), LoadOptions(cpu=CpuOptions(threads=2)))
    reranker = reranker_of(artifacts / "tiny", Flaky(backend), max_waiting_tokens=150_000)
    load.reranker = reranker
    shared = AsyncReranker(reranker)
    threads = [threading.Thread(target=load.thread, args=(seed,)) for seed in range(4)]
    threads += [threading.Thread(target=load.loop, args=(shared, seed)) for seed in range(2)]
    for thread in threads:
        thread.start()
    levels = []
    while any(thread.is_alive() for thread in threads):
        time.sleep(SECONDS / 50)
        levels.append(resident_bytes())
    asyncio.run(shared.close())
    metrics = reranker.metrics
    reranker.close()
    del reranker, shared, load.reranker
    gc.collect()
    print(f"{load.begun} {load.ended} {metrics} resident {levels[10] / 1e6:.1f} to {levels[-1] / 1e6:.1f} MB")
    assert load.wrong == 0
    assert sum(load.ended.values()) == load.begun["calls"]
    assert {"done", "cancelled", "BackendError", "DeadlineError", "InputError"} <= set(load.ended)
    assert (metrics.waiting_calls, metrics.waiting_tokens, metrics.running) == (0, 0, 0)
    assert threading.active_count() == threads_before
    before, after = np.median(levels[10:20]), np.median(levels[-10:])
    assert after < (1.05 * before if SECONDS >= 300 else before + 64e6)  # in a short run the allocator still grows

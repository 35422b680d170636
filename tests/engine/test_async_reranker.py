"""``AsyncReranker``: the results of ``Reranker``, and what becomes of a call that is cancelled, late or not awaited."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import numpy as np
import pytest

from modernrank import (
    AsyncReranker,
    CallReport,
    ClosedError,
    DeadlineError,
    InputError,
    LoadOptions,
    OverloadedError,
    Reranker,
    TruncationWarning,
)
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from support.backends import Gate, NotANumber
from support.scoring import reranker_of

QUERY = "the terms of the license"
DOCUMENTS = [f"notice {i} " * (1 + i % 23) for i in range(300)] + ["", "notice"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]
Use = Callable[[AsyncReranker], Awaitable[object]]


@pytest.fixture
def gate(artifacts: Path) -> Gate:
    return Gate(open_backend(Artifact.open(artifacts / "tiny"), LoadOptions()))


@pytest.fixture
def held(artifacts: Path, gate: Gate) -> Iterator[Reranker]:
    """A reranker whose runs wait at the gate."""
    with reranker_of(artifacts / "tiny", gate) as reranker:
        yield reranker
        gate.open.set()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("options", [{}, {"activation": "sigmoid"}, {"max_length": 20, "truncation": "document"}])
def test_scores_and_rankings_are_those_of_reranker(reranker: Reranker, options: dict[str, object]) -> None:
    async def main() -> None:
        shared = AsyncReranker(reranker)
        with pytest.warns(TruncationWarning) if "max_length" in options else _nothing():
            scores = await shared.score(PAIRS, **options)  # type: ignore[arg-type]
            expected = reranker.score(PAIRS, **options)  # type: ignore[arg-type]
        assert scores.dtype == np.float32
        assert np.array_equal(scores, expected)
        for more in ({}, {"top_k": 3}, {"long_documents": "chunk", "max_length": 40, "truncation": "error"}):
            arguments = options | more
            expected_ranking = reranker.rank(QUERY, DOCUMENTS, **arguments)  # type: ignore[arg-type]
            assert await shared.rank(QUERY, DOCUMENTS, **arguments) == expected_ranking  # type: ignore[arg-type]

    asyncio.run(main())


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def test_several_labels_and_no_pairs(artifacts: Path) -> None:
    async def main() -> None:
        async with AsyncReranker(artifacts / "tiny-cls", threads=1) as several:
            assert (await several.score(PAIRS[:3])).shape == (3, 3)
            assert (await several.score([])).shape == (0, 3)
            with pytest.raises(InputError):
                await several.rank(QUERY, ["a"])
            assert (several.labels, several.max_length) == (several.reranker.labels, several.reranker.max_length)
            assert several.info.threads == 1

    asyncio.run(main())


def test_arrays_and_generators_are_taken(reranker: Reranker) -> None:
    async def main() -> None:
        shared = AsyncReranker(reranker)
        expected = reranker.score(PAIRS[:5])
        assert np.array_equal(await shared.score(iter(PAIRS[:5])), expected)
        assert np.array_equal(await shared.score(np.array(PAIRS[:5])), expected)  # type: ignore[arg-type]
        ranking = reranker.rank(QUERY, DOCUMENTS[:5])
        assert await shared.rank(QUERY, (document for document in DOCUMENTS[:5])) == ranking
        assert await shared.rank(QUERY, np.array(DOCUMENTS[:5])) == ranking  # type: ignore[arg-type]

    asyncio.run(main())


def test_many_tasks_get_their_own_scores(reranker: Reranker) -> None:
    async def main() -> None:
        shared = AsyncReranker(reranker)
        starts = range(0, 250, 5)
        parts = await asyncio.gather(*(shared.score(PAIRS[i : i + 7], priority=i % 3) for i in starts))
        expected = reranker.score(PAIRS)
        for i, part in zip(starts, parts, strict=True):
            assert np.array_equal(part, expected[i : i + 7])

    asyncio.run(main())


@pytest.mark.parametrize("window", [1, 7, 256])
def test_streams_of_both_kinds(reranker: Reranker, window: int) -> None:
    async def asynchronous() -> AsyncIterator[tuple[str, str]]:
        for pair in PAIRS[:40]:
            await asyncio.sleep(0)
            yield pair

    async def main() -> None:
        shared = AsyncReranker(reranker)
        expected = reranker.score(PAIRS[:40]).tolist()
        assert [score async for score in shared.score_iter(PAIRS[:40], window=window)] == expected
        assert [score async for score in shared.score_iter(asynchronous(), window=window)] == expected

    asyncio.run(main())


def test_a_stream_that_waits_for_its_own_scores_goes_on(reranker: Reranker) -> None:
    """Nothing is read from an asynchronous source before its turn."""
    seen: list[float] = []

    async def source() -> AsyncIterator[tuple[str, str]]:
        for i in range(5):
            assert len(seen) == i
            yield PAIRS[i]

    async def main() -> None:
        async for score in AsyncReranker(reranker).score_iter(source(), window=1):
            seen.append(float(score))  # type: ignore[arg-type]

    asyncio.run(main())
    assert len(seen) == 5


def test_an_error_of_a_stream_comes_after_the_scores_before_it(reranker: Reranker) -> None:
    def broken() -> Iterator[tuple[str, str]]:
        yield from PAIRS[:10]
        raise OSError("the disk is gone")

    async def main() -> None:
        stream = AsyncReranker(reranker).score_iter(broken(), window=4)
        assert [await anext(stream) for _ in range(10)] == reranker.score(PAIRS[:10]).tolist()
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(stream)

    asyncio.run(main())


def test_bad_texts_are_an_error_of_their_own_call(reranker: Reranker) -> None:
    async def main() -> None:
        shared = AsyncReranker(reranker)
        good, bad = PAIRS[:3], [*PAIRS[:3], (QUERY, "\ud800")]
        results = await asyncio.gather(shared.score(good), shared.score(bad), return_exceptions=True)
        assert isinstance(results[0], np.ndarray)
        assert isinstance(results[1], InputError) and results[1].details["index"] == 3

    asyncio.run(main())


def test_logits_that_are_not_numbers_are_an_error(artifacts: Path, gate: Gate) -> None:
    async def main() -> None:
        with reranker_of(artifacts / "tiny", NotANumber(gate)) as broken:
            results = await asyncio.gather(*[AsyncReranker(broken).score(PAIRS[:2])] * 1, return_exceptions=True)
        assert "not finite" in str(results[0])

    asyncio.run(main())


async def _asyncio_cancel(call: Awaitable[object]) -> None:
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.05)
    task.cancel()
    task.cancel()  # twice is the same as once
    with pytest.raises(asyncio.CancelledError):
        await task


async def _asyncio_timeout(call: Awaitable[object]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call


async def _wait_for(call: Awaitable[object]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.05)


async def _anyio_move_on(call: Awaitable[object]) -> None:
    with anyio.move_on_after(0.05) as scope:
        await call
    assert scope.cancelled_caught


async def _anyio_group(call: Awaitable[object]) -> None:
    async def work() -> None:
        await call

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("leave", [_asyncio_cancel, _asyncio_timeout, _wait_for, _anyio_move_on, _anyio_group])
def test_nothing_more_is_computed_for_a_call_that_was_left(
    held: Reranker, gate: Gate, leave: Callable[[Awaitable[object]], Awaitable[None]]
) -> None:
    async def main() -> None:
        shared = AsyncReranker(held)
        await leave(shared.score(PAIRS))
        begun = gate.begun
        gate.open.set()
        await until(lambda: held.metrics.running == 0)
        metrics = held.metrics
        assert (metrics.waiting_calls, metrics.waiting_tokens, metrics.cancelled) == (0, 0, 1)
        assert gate.begun == begun
        assert np.array_equal(await shared.score(PAIRS[:9]), held.score(PAIRS[:9]))

    asyncio.run(main())


def test_a_timeout_is_a_deadline(held: Reranker, gate: Gate) -> None:
    async def main() -> None:
        shared = AsyncReranker(held)
        begun = time.monotonic()
        for call in (shared.score(PAIRS, timeout=0.05), shared.rank(QUERY, DOCUMENTS, timeout=0.05)):
            with pytest.raises(DeadlineError) as caught:
                await call
            assert caught.value.details["timeout"] == 0.05
        assert time.monotonic() - begun < 5
        assert held.metrics.timed_out == 2
        gate.open.set()
        assert len(await shared.score(PAIRS, timeout=60)) == len(PAIRS)

    asyncio.run(main())


@pytest.mark.parametrize("use", [lambda r: r.score([], timeout=0), lambda r: r.rank("q", ["d"], priority=-1)])
def test_arguments_out_of_range_are_refused(reranker: Reranker, use: Use) -> None:
    async def main() -> None:
        with pytest.raises(InputError):
            await use(AsyncReranker(reranker))

    asyncio.run(main())


def test_a_full_queue_refuses_new_calls_and_nothing_else(artifacts: Path, gate: Gate) -> None:
    async def main() -> None:
        limited = reranker_of(artifacts / "tiny", gate, max_waiting_tokens=8192)
        shared = AsyncReranker(limited)
        lists = [asyncio.ensure_future(shared.score(PAIRS[:100])) for _ in range(40)]
        await until(lambda: any(call.done() for call in lists))
        gate.open.set()
        results = await asyncio.gather(*lists, return_exceptions=True)
        assert {type(result) for result in results} == {np.ndarray, OverloadedError}
        refusals = [result.details for result in results if isinstance(result, OverloadedError)]
        assert all(details["waiting_tokens"] <= details["limit"] == 8192 for details in refusals)
        expected = limited.score(PAIRS[:100])
        assert all(np.array_equal(result, expected) for result in results if isinstance(result, np.ndarray))
        await shared.close()
        limited.close()

    asyncio.run(main())


def test_closing_waits_for_calls_in_progress(artifacts: Path) -> None:
    async def main() -> None:
        shared = await AsyncReranker(artifacts / "tiny").start()
        calls = [asyncio.ensure_future(shared.score(PAIRS)) for _ in range(4)]
        await asyncio.sleep(0)
        await shared.close()
        assert [len(await call) for call in calls] == [len(PAIRS)] * 4
        await shared.close()

    asyncio.run(main())


def test_closing_without_draining_ends_calls_in_progress(held: Reranker, gate: Gate) -> None:
    async def main() -> None:
        shared = AsyncReranker(held)
        calls = [asyncio.ensure_future(shared.score(PAIRS)) for _ in range(4)]
        await until(lambda: held.metrics.waiting_calls == 4)
        await shared.close(drain=False)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {ClosedError}
        gate.open.set()
        assert len(held.score(PAIRS)) == len(PAIRS)  # its owner closes it

    asyncio.run(main())


def test_an_error_in_the_block_ends_calls_in_progress(artifacts: Path) -> None:
    async def main() -> None:
        calls = []

        async def block() -> None:
            async with AsyncReranker(artifacts / "tiny") as shared:
                calls.append(asyncio.ensure_future(shared.score(PAIRS * 50)))
                await asyncio.sleep(0.05)
                raise KeyError("the caller's own")

        with pytest.raises(KeyError):
            await block()
        with pytest.raises(ClosedError):
            await calls[0]

    asyncio.run(main())


@pytest.mark.parametrize("use", [lambda r: r.score([]), lambda r: r.rank("q", ["d"]), lambda r: r.start()])
def test_a_closed_one_refuses_calls(artifacts: Path, use: Use) -> None:
    async def main() -> None:
        async with AsyncReranker(artifacts / "tiny") as shared:
            pass
        with pytest.raises(ClosedError):
            await use(shared)

    asyncio.run(main())


def test_one_that_is_not_started_refuses_calls(artifacts: Path) -> None:
    async def main() -> None:
        with pytest.raises(ClosedError, match="start"):
            await AsyncReranker(artifacts / "tiny").score([])

    asyncio.run(main())


def test_options_of_a_loaded_model_are_refused(reranker: Reranker) -> None:
    with pytest.raises(InputError) as caught:
        AsyncReranker(reranker, threads=1)
    assert caught.value.details["argument"] == "threads"


def test_closing_does_not_wait_for_streams_that_cannot_go_on(reranker: Reranker) -> None:
    async def endless() -> AsyncIterator[tuple[str, str]]:
        yield PAIRS[0]
        await asyncio.Event().wait()

    async def main() -> None:
        shared = AsyncReranker(reranker)
        suspended = shared.score_iter(PAIRS, window=4)  # by this task, which cannot read on while it closes
        await anext(suspended)
        waiting = shared.score_iter(endless(), window=1)
        first = await asyncio.ensure_future(_next(waiting))
        assert first == reranker.score(PAIRS[:1])[0]
        other = asyncio.ensure_future(_next(waiting))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(shared.close(drain=False), 10)
        with pytest.raises(ClosedError):
            await _all(suspended)
        other.cancel()

    asyncio.run(main())


def test_a_report_says_what_a_call_took(reranker: Reranker) -> None:
    async def main() -> None:
        shared, scored, ranked = AsyncReranker(reranker), CallReport(), CallReport()
        await shared.score(PAIRS, report=scored)
        await shared.rank(QUERY, DOCUMENTS + DOCUMENTS[:5], report=ranked)
        await shared.close()
        assert scored.pairs == len(PAIRS)
        assert scored.tokens == reranker.plan(PAIRS).pair_tokens
        assert (ranked.pairs, ranked.tokens) == (scored.pairs, scored.tokens)  # equal documents count once
        assert min(scored.tokenise_seconds, scored.wait_seconds, scored.run_seconds) > 0

    asyncio.run(main())


async def _all(stream: AsyncIterator[object]) -> list[object]:
    return [item async for item in stream]


async def _next(stream: AsyncIterator[object]) -> object:
    return await anext(stream)


def test_an_error_beside_a_suspended_stream_is_seen(reranker: Reranker) -> None:
    async def read(stream: AsyncIterator[object]) -> None:
        async for _ in stream:
            raise KeyError("the caller's own")

    async def main() -> None:
        async with AsyncReranker(reranker) as shared:
            await read(shared.score_iter(PAIRS, window=4))

    with pytest.raises(KeyError):
        asyncio.run(asyncio.wait_for(main(), 10))


def test_it_is_loaded_once_and_never_after_its_end(artifacts: Path) -> None:
    async def main() -> None:
        shared = AsyncReranker(artifacts / "tiny")
        await asyncio.gather(*(shared.start() for _ in range(5)))
        first = shared.reranker
        await shared.start()
        assert shared.reranker is first
        await shared.close()
        late = AsyncReranker(artifacts / "tiny")
        starting = asyncio.ensure_future(late.start())
        await asyncio.sleep(0)
        await late.close()
        with pytest.raises(ClosedError):
            await starting
        with pytest.raises(ClosedError):
            _ = late.reranker

    asyncio.run(main())


def test_one_that_is_forgotten_frees_the_model(artifacts: Path) -> None:
    reranker = Reranker.load(artifacts / "tiny", threads=2)
    scorer = weakref.ref(reranker.scorer)

    async def main(model: Reranker) -> None:
        await AsyncReranker(model).score(PAIRS[:9])

    asyncio.run(main(reranker))
    del reranker
    until = time.monotonic() + 10
    while scorer() is not None and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    assert scorer() is None


def test_loops_in_several_threads_share_it(reranker: Reranker) -> None:
    shared = AsyncReranker(reranker)
    expected = reranker.score(PAIRS[:50])

    async def main(i: int) -> bool:
        parts = await asyncio.gather(*(shared.score(PAIRS[i : i + 5]) for i in range(i, i + 10)))
        return all(np.array_equal(part, expected[k : k + 5]) for k, part in enumerate(parts, i))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda i: asyncio.run(main(i)), range(4)))


def test_a_call_whose_loop_was_closed_is_given_up(held: Reranker, gate: Gate) -> None:
    shared = AsyncReranker(held)
    loop = asyncio.new_event_loop()
    task = loop.create_task(shared.score(PAIRS))
    loop.run_until_complete(until(lambda: gate.begun > 0))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()
    begun = gate.begun
    gate.open.set()
    while held.metrics.running or held.metrics.waiting_calls:
        time.sleep(0.001)
    assert held.metrics.cancelled == 1
    assert gate.begun == begun
    assert len(asyncio.run(shared.score(PAIRS[:9]))) == 9  # type: ignore[arg-type]


def test_it_leaves_no_thread(artifacts: Path) -> None:
    before = threading.active_count()

    async def main() -> None:
        async with AsyncReranker(artifacts / "tiny", threads=2) as shared:
            await asyncio.gather(*(shared.rank(QUERY, DOCUMENTS[:50]) for _ in range(8)))
            assert threading.active_count() > before

    asyncio.run(main())
    gc.collect()
    assert threading.active_count() == before


def test_without_asyncio_the_error_says_what_to_do(reranker: Reranker) -> None:
    with pytest.raises(InputError, match="thread"):
        AsyncReranker(reranker).score([]).send(None)

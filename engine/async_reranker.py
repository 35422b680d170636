"""``AsyncReranker``: the calls of ``Reranker`` for programs that run an event loop.

``calls/event_loop.py`` shows how a call goes its way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from .arrays import FloatArray
from .backends.base import BackendInfo
from .calls.event_loop import WINDOW, AsyncCall, CallReport, CallsInProgress
from .calls.ordered_threads import OrderedThreads
from .calls.requests import RankedDocument, ScoreRequest
from .calls.single_texts import ClassifyRequest, LabelScore
from .calls.windows import OnTruncate
from .errors import ClosedError, InputError
from .options import ActivationChoice, LongDocuments, TextLimits, TruncationChoice, positive
from .queue.metrics import Metrics
from .queue.urgency import Urgency
from .reranker import Reranker
from .text.checks import Pair

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")

# Two, so that one long document does not keep all others waiting; each uses all cores.
TOKENISING_THREADS = 2
# From this number of documents on, a ranking is put together outside the event loop.
LARGE_RANKING = 1024


class AsyncReranker:
    """Scores and ranks without blocking the event loop. Tasks, loops and threads may share it.

    Use it as an asynchronous context manager, or call ``start`` and ``close``. It requires asyncio, on which anyio runs
    by default.

    Args:
        model: a ``Reranker``, which its owner closes; or the folder of an artifact, which is loaded by ``start`` and
            closed by ``close``.
        load_options: further arguments of ``Reranker.load`` for a folder.

    >>> import asyncio
    >>> from modernrank import AsyncReranker
    >>> async def main():
    ...     async with AsyncReranker(TINY) as reranker:                          # an artifact's folder
    ...         scores = await reranker.score([("capital of France?", "Paris")], timeout=30)
    ...         ranking = await reranker.rank("capital of France?", ["A baguette", "Paris"], top_k=1)
    ...     return scores.shape, len(ranking)
    >>> asyncio.run(main())
    ((1,), 1)
    """

    def __init__(self, model: Reranker | str | Path, **load_options: Any) -> None:
        if isinstance(model, Reranker) and load_options:
            raise InputError(
                f"{', '.join(load_options)} cannot be changed, because this Reranker is loaded already; pass them to "
                "Reranker.load",
                argument=next(iter(load_options)),
            )
        self._loaded: Reranker | None = model if isinstance(model, Reranker) else None
        self._folder = None if isinstance(model, Reranker) else model
        self._load_options = load_options
        self._tokenising = OrderedThreads(TOKENISING_THREADS, "modernrank-tokenise")
        self._calls = CallsInProgress()
        self._loading = threading.Lock()

    @property
    def reranker(self) -> Reranker:
        """The model, for calls that need no event loop: ``count_tokens``, ``plan``.

        Raises:
            ClosedError: it is not loaded yet, or closed.
        """
        self._calls.check_open()
        if self._loaded is None:
            raise ClosedError("this AsyncReranker is not started; use it in `async with`, or await its start()")
        return self._loaded

    @property
    def info(self) -> BackendInfo:
        """What is running: provider, runtime, precision, graph, threads."""
        return self.reranker.info

    @property
    def labels(self) -> list[str]:
        """Names of the model's labels, in the order of the logits."""
        return self.reranker.labels

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in a pair, special tokens included, unless a call lowers it."""
        return self.reranker.max_length

    @property
    def metrics(self) -> Metrics:
        """What waits at this moment, and what has been done since the model was loaded."""
        return self.reranker.metrics

    async def start(self) -> Self:
        """Load the model, if it is not loaded yet.

        Raises:
            ArtifactError, ProviderError, InputError: as ``Reranker.load``.
            ClosedError: ``close`` was called.
        """
        self._calls.check_open()
        if self._loaded is None:
            await asyncio.to_thread(self._load)
            self._calls.check_open()
        return self

    async def score(
        self,
        pairs: Iterable[Pair],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        priority: int = 0,
        timeout: float | None = None,
        report: CallReport | None = None,
    ) -> FloatArray:
        """Score each (query, document) pair. ``Reranker.score`` has the arguments, the result and the errors.

        If the task is cancelled, nothing more is computed for it. ``report`` is filled in with what the call took.
        """
        urgency = Urgency.of(priority, timeout)
        async with self._call(urgency, report) as call:
            request = self.reranker.score_request(
                pairs,
                activation=activation,
                max_length=max_length,
                truncation=truncation,
                limits=limits,
                on_truncate=on_truncate,
            )
            return request.scores(*await call.results(request.steps))

    async def score_iter(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        window: int = WINDOW,
        priority: int = 0,
    ) -> AsyncIterator[np.float32 | FloatArray]:
        """Score a stream of pairs in constant memory: yields one score for each pair, in order.

        Args:
            pairs: as in ``Reranker.score``, or an asynchronous iterable of such pairs.
            activation: as in ``Reranker.score``.
            max_length: as in ``Reranker.score``.
            truncation: as in ``Reranker.score``.
            limits: as in ``Reranker.score``.
            on_truncate: as in ``Reranker.score``.
            window: number of pairs that are read ahead and scored together. Larger windows pad less, smaller ones
                answer sooner.
            priority: as in ``Reranker.score``.

        Yields:
            np.float32, or float32 ``[labels]`` for a model of several labels.

        Raises:
            InputError, OverloadedError, ClosedError, BackendError: as ``Reranker.score``.
        """
        urgency, size = Urgency.of(priority), positive("window", window)
        source = pairs if isinstance(pairs, AsyncIterable) else None
        async with self._call(urgency) as call:
            request = self.reranker.score_request(
                () if source is not None else pairs,  # type: ignore[arg-type]
                activation=activation,
                max_length=max_length,
                truncation=truncation,
                limits=limits,
                on_truncate=on_truncate,
            )
            scored = call.windows(request.steps, size) if source is None else call.stream(request.steps, source, size)
            async with aclosing(scored) as windows:
                async for logits in windows:
                    for score in request.scores(logits):
                        yield score

    async def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        long_documents: LongDocuments = "truncate",
        max_parts: int | None = None,
        part_tokens: int | None = None,
        with_parts: bool = False,
        priority: int = 0,
        timeout: float | None = None,
        report: CallReport | None = None,
    ) -> list[RankedDocument]:
        """Sort ``documents`` by their score for ``query``. ``Reranker.rank`` has the arguments, result and errors.

        If the task is cancelled, nothing more is computed for it. ``report`` is filled in with what the call took.
        """
        urgency = Urgency.of(priority, timeout)
        async with self._call(urgency, report) as call:
            listed = documents if isinstance(documents, Sequence) else _listed(documents)
            make = partial(
                self.reranker.rank_request,
                query,
                listed,
                top_k,
                activation=activation,
                max_length=max_length,
                truncation=truncation,
                limits=limits,
                long_documents=long_documents,
                max_parts=max_parts,
                part_tokens=part_tokens,
                with_parts=with_parts,
            )
            request = await call.outside_the_loop(make)
            results = await call.results(request.steps)
            if sum(map(len, results)) < LARGE_RANKING:
                return request.ranking(results)
            return await call.outside_the_loop(partial(request.ranking, results))

    async def score_texts(
        self,
        texts: Iterable[str],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        priority: int = 0,
        timeout: float | None = None,
        report: CallReport | None = None,
    ) -> FloatArray:
        """Score single texts. ``Reranker.score_texts`` has the arguments, the result and the errors.

        If the task is cancelled, nothing more is computed for it. ``report`` is filled in with what the call took.
        """
        urgency = Urgency.of(priority, timeout)
        async with self._call(urgency, report) as call:
            steps = self.reranker.text_steps(
                texts, max_length=max_length, truncation=truncation, limits=limits, on_truncate=on_truncate
            )
            request = ScoreRequest(self.reranker.manifest, steps, activation)
            return request.scores(*await call.results(steps))

    async def classify(
        self,
        texts: Iterable[str],
        *,
        top_k: int | None = 1,
        activation: ActivationChoice | None = None,
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        priority: int = 0,
        timeout: float | None = None,
        report: CallReport | None = None,
    ) -> list[list[LabelScore]]:
        """Label single texts. ``Reranker.classify`` has the arguments, the result and the errors.

        If the task is cancelled, nothing more is computed for it. ``report`` is filled in with what the call took.
        """
        urgency = Urgency.of(priority, timeout)
        async with self._call(urgency, report) as call:
            steps = self.reranker.text_steps(
                texts, max_length=max_length, truncation=truncation, limits=limits, on_truncate=on_truncate
            )
            request = ClassifyRequest(self.reranker.manifest, steps, top_k, activation)
            return list(request.labelled(await call.results(steps)))

    async def close(self, drain: bool = True) -> None:
        """Refuse further calls, and end. Closing twice does nothing more.

        Args:
            drain: wait for the calls in progress; else they end with a ``ClosedError``. A stream that the calling task
                itself has not read to its end ends so in either case.
        """
        self._calls.close(abort=not drain)
        await self._calls.wait_until_none()
        await asyncio.to_thread(self._tokenising.close)
        if self._folder is not None:
            await asyncio.to_thread(self._unload)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(drain=error is None)

    def __repr__(self) -> str:
        return f"AsyncReranker({self._folder if self._loaded is None else self._loaded!r})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("an AsyncReranker cannot be copied or pickled; load the artifact in each process")

    def _load(self) -> None:
        with self._loading:  # one of several tasks loads it, the others wait
            self._calls.check_open()
            if self._loaded is None and self._folder is not None:
                self._loaded = Reranker.load(self._folder, **self._load_options)

    def _unload(self) -> None:
        with self._loading:
            loaded, self._loaded = self._loaded, None
            if loaded is not None:
                loaded.close()

    @asynccontextmanager
    async def _call(self, urgency: Urgency, report: CallReport | None = None) -> AsyncIterator[AsyncCall]:
        """A call in progress, which ends at its deadline."""
        _check_asyncio()
        scorer = self.reranker.scorer
        scorer.check_room()
        call = AsyncCall(scorer, self._tokenising, urgency, report)
        with self._calls.holding(call):
            if urgency.timeout is None:
                yield call
                return
            try:
                async with asyncio.timeout(urgency.seconds_left()) as limit:
                    yield call
            except TimeoutError as error:
                if limit.expired():
                    raise urgency.error() from error
                raise


def _check_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError as error:
        raise InputError(
            "AsyncReranker requires asyncio's event loop; under trio, run Reranker in a thread: "
            "trio.to_thread.run_sync(reranker.rank, query, documents)"
        ) from error


def _listed(documents: Iterable[str]) -> Iterable[str]:
    """A generator's documents, read in the loop, where it may have been made for; arrays and the like as they are."""
    return list(documents) if isinstance(documents, Iterator) else documents

"""What all endpoints share: the settings, the models, the keys, the metrics, and whether requests are taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from modernrank import ModernRankError

from ..limits import mebibytes
from ..models import LoadedModel, Models
from ..observing.metrics import ServerMetrics
from ..observing.tracing import Tracer
from ..settings import Settings
from .access import Keys
from .body import Receive, read_body
from .problems import RequestError

logger = logging.getLogger(__name__)


class Service:
    """A server from its start to its end.

    Args:
        settings: of the server.
        models: that it serves; they are loaded by ``start``.
        keys: that it accepts.
        connections: the number of open connections, for metrics.
        lost_lines: the number of log lines that could not be written, for metrics.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        keys: Keys,
        connections: Callable[[], int] = lambda: 0,
        lost_lines: Callable[[], int] = lambda: 0,
    ) -> None:
        self.settings = settings
        self.models = models
        self.keys = keys
        self.metrics = ServerMetrics(lambda: self.models.loaded, connections, lost_lines)
        self.tracer = Tracer()
        self.is_draining = False
        self.loading: asyncio.Task[None] | None = None
        self._in_progress = 0
        self._buffered = 0  # bytes of the bodies of requests

    @property
    def is_ready(self) -> bool:
        """Whether a balancer should send requests."""
        return self.models.ready and not self.is_draining

    def start(self) -> None:
        """Begin to load the models. The server is live meanwhile, and not ready."""
        self.loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            await self.models.load()
        except ModernRankError as error:  # also where nobody waits for this task, as in another server
            logger.error("cannot load the models: %s", error)
            raise
        self.metrics.ready.set(1)
        for model in self.models.loaded:
            logger.info("%s is ready: %s", model.name, model.reranker.reranker.scorer.description)

    def drain(self) -> None:
        """Be not ready from now on."""
        self.is_draining = True
        self.metrics.ready.set(0)

    async def close(self) -> None:
        """Free the models."""
        if self.loading is not None and not self.loading.done():
            self.loading.cancel()
            await asyncio.wait([self.loading])
        await self.models.close()

    @asynccontextmanager
    async def body(self, headers: dict[bytes, bytes], receive: Receive) -> AsyncIterator[bytes]:
        """A block with the body of a request for scores.

        Raises:
            RequestError: as ``read_body``; 503 before the models are loaded, or if the bodies of all requests are too
                large; 429 if too many requests are in progress.
        """
        self._check_room()
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._buffered + size > self.settings.max_buffered_bytes:
                raise RequestError(
                    503,
                    f"the bodies of all requests have {mebibytes(self._buffered)}, and the limit max_buffered_bytes is "
                    f"{mebibytes(self.settings.max_buffered_bytes)}; try again later",
                    retry_after=1,
                    close=True,
                )
            held += size
            self._buffered += size

        try:
            yield await read_body(headers, receive, self.settings.body_limits, hold)
        finally:
            self._buffered -= held

    def _check_room(self) -> None:
        if not self.models.ready:
            raise RequestError(503, "the models are still being loaded; ask /health/ready", retry_after=2)
        if self._in_progress >= self.settings.max_requests:
            raise RequestError(
                429,
                f"{self._in_progress:,} requests are in progress, and the limit max_requests is "
                f"{self.settings.max_requests:,}; try again later",
                retry_after=1,
            )

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A ``with`` block that is a request in progress. A client that sends its body slowly is not one.

        Raises:
            RequestError: 503 before the models are loaded, 429 if too many requests are in progress.
        """
        self._check_room()
        self._in_progress += 1
        self.metrics.in_progress.inc()
        try:
            yield
        finally:
            self._in_progress -= 1
            self.metrics.in_progress.dec()

    def check_queue(self, model: LoadedModel) -> None:
        """Refuse a request that would wait too long.

        Raises:
            RequestError: 503.
        """
        wait, limit = model.reranker.reranker.scorer.estimated_wait, self.settings.max_queue_seconds
        if wait is not None and wait > limit:
            raise RequestError(
                503,
                f"a request would wait about {wait:.0f} s, and the limit max_queue_seconds is {limit:g}; "
                "try again later",
                retry_after=wait - limit,
            )

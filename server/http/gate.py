"""The outermost layer: gives each request an id, measures it, logs it, and answers what nobody else has answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..observing.logs import log_request
from ..observing.record import CLIENT_LEFT, Record, request_id_of
from ..wires.base import Problem, detail_error
from .body import ClientLeftError
from .problems import KINDS
from .service import Service

logger = logging.getLogger("modernrank.server")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
# Where the endpoints find the record of their request.
RECORD = "modernrank.record"


class Gate:
    """An ASGI application around another."""

    def __init__(self, app: Application, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        record = Record(request_id_of(headers), scope["method"], scope["path"])
        scope[RECORD] = record
        request_id = (b"x-request-id", record.request_id.encode())

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), request_id]
            await send(message)

        with self._service.tracer.request(record, headers):
            try:
                await self._answer(scope, receive, send_with_id, record)
            finally:
                record.seconds = time.perf_counter() - record.begun
        self._service.metrics.count(record)
        if self._service.settings.access_log:
            log_request(record)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, record: Record) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientLeftError:
            record.status = CLIENT_LEFT
        except asyncio.CancelledError:
            if not self._service.is_draining:
                raise
            await self._refuse(503, "the server is shutting down; try again", record, send)
        except Exception as error:
            # The outermost place: a fault of ours becomes a 500, and the place of the fault a line of the log.
            logger.error("a request failed unexpectedly", exc_info=error, extra={"fields": {"id": record.request_id}})
            await self._refuse(500, "the server failed to answer this request; its log says where", record, send)

    async def _refuse(self, status: int, message: str, record: Record, send: Send) -> None:
        if record.status:
            return  # an answer has begun: the connection ends
        body = msgspec.json.encode(
            detail_error(Problem(status, KINDS.get(status, "server_error"), message, record.request_id))
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"1")] if status == 503 else []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

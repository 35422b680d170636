"""The connections themselves: their number, and clients that are slow to send, to receive, or to do anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..settings import Settings
from ..wires.base import Problem, detail_error
from .problems import KINDS

# Bytes of a request line with its headers.
MAX_HEADER_BYTES = 65_536


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for the headers of a request and for a client that does not read."""

    settings: Settings

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many, and wait for the first headers."""
        super().connection_made(transport)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.settings.max_connections:
            self._refuse(503, f"there are {self.settings.max_connections:,} connections (max_connections)", 1)
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._headers_arrived()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of headers that are not complete."""
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._header_timer is None:
            self._await_headers()
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_timer is not None and self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the headers are larger than {MAX_HEADER_BYTES:,} bytes")

    def on_headers_complete(self) -> None:
        """A request has begun."""
        self._headers_arrived()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client receives more slowly than the answer is written."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.settings.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """It has received what waited."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose client has not received its last answer."""
        super().timeout_keep_alive_handler()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.settings.write_timeout, self.transport.abort)

    def _await_headers(self) -> None:
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(self.settings.header_timeout, self._headers_are_late)

    def _headers_arrived(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_are_late(self) -> None:
        if self._header_bytes:
            self._refuse(408, f"the headers did not arrive within {self.settings.header_timeout:g} s (header_timeout)")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, retry_after: int | None = None) -> None:
        """Answer before there is a request, and close the connection."""
        self._headers_arrived()
        body = msgspec.json.encode(detail_error(Problem(status, KINDS[status], message)))
        lines = [
            STATUS_LINE[status],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n" % len(body),
            b"" if retry_after is None else b"retry-after: %d\r\n" % retry_after,
            b"\r\n",
            body,
        ]
        self.transport.write(b"".join(lines))
        self.transport.close()


def guarded(settings: Settings) -> Callable[..., Any]:
    """The class of the protocol with these settings, as uvicorn takes it."""
    return type("GuardedProtocol", (GuardedProtocol,), {"settings": settings})

"""The connections themselves: their number, and clients that are slow to send, to receive, or to do anything.

uvicorn's protocol waits for ever for the headers of a request and for a client that does not read. Here the head of a
request is collected first, within a limit of bytes and of time, and then given to the parser as a whole. The next
request of a connection waits until the last one is answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..settings import Settings
from ..wires.base import Problem, detail_error
from .problems import KINDS

# Bytes of a request line with its headers.
MAX_HEADER_BYTES = 65_536
END_OF_HEAD = re.compile(rb"\n\r?\n")
# The parser takes what follows such a request for another protocol, and drops its body. Some clients always offer one.
UPGRADE = re.compile(rb"^upgrade[ \t]*:", re.IGNORECASE | re.MULTILINE)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits."""

    settings: Settings
    count_refusal: Callable[[int], None]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many, and wait for the first head."""
        super().connection_made(transport)
        self._received = b""  # of the next head
        self._in_message = False  # its head is complete, and its body is not
        self._has_headers = False
        self._outside_body = 0  # bytes within a message since the last ones of its body
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._answered: RequestResponseCycle | None = None
        if len(self.connections) > self.settings.max_connections:
            self._refuse(503, f"there are {self.settings.max_connections:,} connections (max_connections)", 1)
            return
        self._after(self.settings.header_timeout, "head", self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and tell every request of this connection that nobody reads its answer."""
        for name in list(self._timers):
            self._stop(name)
        for cycle in (self._answered, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Collect the head of a request; what follows goes to the parser."""
        self._unset_keepalive_if_required()
        self._received = self._received + data if self._received else data
        self._feed()

    def _feed(self) -> None:
        while self._received and not self.transport.is_closing():
            if self._in_message:
                chunk, self._received = self._received, b""
                self._outside_body += len(chunk)
                super().data_received(chunk)
                if self._outside_body > MAX_HEADER_BYTES and self._in_message:
                    self.transport.abort()  # trailers without an end
            elif self.cycle is not None and not self.cycle.response_complete:
                if len(self._received) > MAX_HEADER_BYTES:
                    self.flow.pause_reading()  # until this request is answered
                return
            elif (end := END_OF_HEAD.search(self._received)) is None or end.end() > MAX_HEADER_BYTES:
                self._check_head()
                return
            else:
                head, self._received = self._received[: end.end()], self._received[end.end() :]
                super().data_received(UPGRADE.sub(b"x-upgrade:", head))

    def _check_head(self) -> None:
        if len(self._received) > MAX_HEADER_BYTES:
            self._refuse(431, f"the headers are larger than {MAX_HEADER_BYTES:,} bytes")
        elif not self._received.lstrip(b"\r\n")[:1].isalpha() and self._received.strip(b"\r\n"):
            self._refuse(400, "this is not HTTP")
        elif "head" not in self._timers:
            self._after(self.settings.header_timeout, "head", self._head_is_late)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_message, self._has_headers = True, False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the head; those behind a body in chunks do not count."""
        if not self._has_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request has begun."""
        self._stop("head")
        self._has_headers = True
        super().on_headers_complete()
        if self.parser.should_upgrade():  # a head that came in the packet of the last body
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Of several requests in a packet ``cycle`` is the last one; this is the one that is being answered."""
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._outside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._in_message = False
        self._outside_body = 0
        self._stop("rest")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written. Its client has to receive it, and to end its body."""
        super().on_response_complete()
        self._expect_reading()
        if self._in_message and not self.transport.is_closing():
            self._after(self.settings.body_timeout, "rest", self.transport.abort)
        self.loop.call_soon(self._feed)

    def shutdown(self) -> None:
        """The server ends."""
        super().shutdown()
        self._expect_reading()

    def pause_writing(self) -> None:
        """The client receives more slowly than the answer is written."""
        super().pause_writing()
        self._expect_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._expect_reading()

    def _expect_reading(self) -> None:
        """Abort if the client receives nothing for ``write_timeout`` while there is something for it."""
        waiting = self.transport.get_write_buffer_size()
        if waiting and "write" not in self._timers:
            self._after(self.settings.write_timeout, "write", lambda: self._check_reading(waiting))

    def _check_reading(self, before: int) -> None:
        self._timers.pop("write", None)
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before > 0:
            self.transport.abort()
        else:
            self._expect_reading()

    def _head_is_late(self) -> None:
        if self._received:
            self._refuse(408, f"the headers did not arrive within {self.settings.header_timeout:g} s (header_timeout)")
        else:
            self.transport.close()

    def _after(self, seconds: float, name: str, act: Callable[[], object]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, act)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses; nothing is written into an answer that has begun."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(400, msg)

    def _refuse(self, status: int, message: str, retry_after: int | None = None) -> None:
        """Answer before there is a request, and close the connection."""
        self._stop("head")
        self.count_refusal(status)
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
        self._expect_reading()


def guarded(settings: Settings, count_refusal: Callable[[int], None] = lambda status: None) -> Callable[..., Any]:
    """The class of the protocol with these settings, as uvicorn takes it.

    Args:
        settings: of the server.
        count_refusal: called with the status of each answer to something that did not become a request.
    """
    attributes = {"settings": settings, "count_refusal": staticmethod(count_refusal)}
    return type("GuardedProtocol", (GuardedProtocol,), attributes)

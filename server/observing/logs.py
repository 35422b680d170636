"""Logs on standard error: a JSON object on each line, or text for people. No text of a request is ever logged."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
import traceback
from types import TracebackType
from typing import Any

from ..settings import Settings
from .record import CLIENT_LEFT, Record

logger = logging.getLogger("modernrank.server.access")
# uvicorn's own lines say what ours say, or print the text of an error.
MAX_LINES = 10_000  # that wait to be written
QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, and the fields of an access line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["stack"] = frames(record.exc_info[2])
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """A line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        if record.exc_info and record.exc_info[0]:
            line += f" [{record.exc_info[0].__name__} at {' < '.join(frames(record.exc_info[2])[::-1][:4])}]"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # a client cannot make lines


class LossyHandler(logging.Handler):
    """Writes lines to standard error from a thread of its own.

    Lines that cannot be written, such as to a full disk, and those of a reader that stands still are counted as lost.
    Nobody waits for them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._thread = threading.Thread(target=self._write, name="modernrank-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Let a line wait for the thread."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.lost += 1

    def stop(self) -> None:
        """Write what waits, if its reader takes it within a second."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(1)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                os.write(2, f"{line}\n".encode("utf-8", "backslashreplace"))  # no lock that the end of Python waits for
            except OSError:
                self.lost += 1


def configure(settings: Settings) -> LossyHandler:
    """Let the server's loggers write to standard error; returns their handler."""
    handler = LossyHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    root = logging.getLogger("modernrank")
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    root.propagate = False
    for name in QUIET:
        library = logging.getLogger(name)
        library.handlers, library.propagate = [logging.NullHandler()], False
        library.setLevel(logging.CRITICAL)
    asyncio_logger = logging.getLogger("asyncio")
    asyncio_logger.handlers, asyncio_logger.propagate = [handler], False
    asyncio_logger.setLevel(logging.ERROR)
    return handler


def log_request(record: Record) -> None:
    """The line of a request that has ended."""
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": record.method,
        "path": record.path[:200],
        "status": record.status,
        "ms": round(record.seconds * 1000, 2),
    }
    if record.is_scoring:
        report = record.report
        fields |= {
            "wire": record.wire,
            "model": record.model,
            "documents": record.documents,
            "tokens": report.tokens,
            "truncated": record.truncated,
            "tokenise_ms": round(report.tokenise_seconds * 1000, 2),
            "queue_ms": round(report.wait_seconds * 1000, 2),
            "run_ms": round(report.run_seconds * 1000, 2),
        }
    message = "client left" if record.status == CLIENT_LEFT else "request"
    # Those who watch a server ask it every second.
    level = logging.INFO if record.is_scoring or record.status >= 400 else logging.DEBUG
    logger.log(level, message, extra={"fields": fields})


def frames(trace: TracebackType | None) -> list[str]:
    """The places of a stack, without the message of its error, which may quote a request."""
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]

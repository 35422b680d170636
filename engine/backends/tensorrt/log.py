"""TensorRT's messages: all of them for the log of a build, and the errors of a run for the text of ours."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any, Protocol

MAX_ERRORS = 20  # of a run that are kept: the first ones, because later ones say that the first one was passed on
NO_REASON = "it gives no reason"


class Log(Protocol):
    """A logger of TensorRT that keeps its messages: all as ``lines``, and those of errors as ``errors``."""

    lines: list[str]

    @property
    def errors(self) -> list[str]:
        """Those of a build, or of a run only those in the calling thread: others run at the same time."""
        ...


def new_log(trt: Any, keep_lines: bool = True) -> Log:
    """A logger for the library ``trt``. It prints nothing: the caller raises errors and writes the lines to a file."""

    class _Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self._errors: list[str] = []
            self._by_thread = threading.local()
            self._start = time.monotonic()

        @property
        def errors(self) -> list[str]:
            if keep_lines:  # a build, which may work in several threads
                return self._errors
            if not hasattr(self._by_thread, "errors"):
                self._by_thread.errors = []
            errors: list[str] = self._by_thread.errors
            return errors

        def log(self, severity: Any, message: str) -> None:
            if severity == self.VERBOSE:
                return
            if keep_lines:
                name = str(severity).rpartition(".")[2]
                self.lines.append(f"{time.monotonic() - self._start:8.2f} s  {name:<14} {message}")
            if severity in (self.ERROR, self.INTERNAL_ERROR) and (keep_lines or len(self.errors) < MAX_ERRORS):
                self.errors.append(message)

    log: Log = _Log()
    return log


@functools.cache
def runtime_log(trt: Any) -> Log:
    """The logger of every engine of ``trt`` in this process; it keeps errors only.

    There is one, and it is never freed: TensorRT keeps the first logger that it is given, for messages that belong to
    no engine.
    """
    return new_log(trt, keep_lines=False)


def first_error(log: Log, otherwise: str = NO_REASON) -> str:
    """The first error since the last call, which is the cause of those behind it. Forgets them."""
    first = log.errors[0] if log.errors else otherwise
    log.errors.clear()
    return first

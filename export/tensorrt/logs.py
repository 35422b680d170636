"""TensorRT's messages during a build: all of them for a file, and its progress as reports."""

from __future__ import annotations

import time
from typing import Any, Protocol

from modernrank.export.report import Report


class Log(Protocol):
    """A logger of TensorRT that keeps its messages: all as ``lines``, and those of errors as ``errors``."""

    lines: list[str]
    errors: list[str]


def new_log(trt: Any) -> Log:
    """A logger for the library ``trt``. It prints nothing: the caller raises errors and writes the lines to a file."""

    class _Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []
            self._start = time.monotonic()

        def log(self, severity: Any, message: str) -> None:
            if severity == self.VERBOSE:
                return
            name = str(severity).rpartition(".")[2]
            self.lines.append(f"{time.monotonic() - self._start:8.2f} s  {name:<14} {message}")
            if severity in (self.ERROR, self.INTERNAL_ERROR):
                self.errors.append(message)

    log: Log = _Log()
    return log


def new_progress(trt: Any, report: Report, seconds: float = 2.0) -> Any:
    """A progress monitor that reports each outermost phase of the builder, and a step every ``seconds``."""

    class _Progress(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._last_report = 0.0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            if not parent:
                report(f"TensorRT: {phase}")

        def step_complete(self, phase: str, step: int) -> bool:
            if time.monotonic() - self._last_report > seconds:
                self._last_report = time.monotonic()
                report(f"TensorRT: {phase}, step {step + 1} of {self._steps.get(phase, 0)}")
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return _Progress()

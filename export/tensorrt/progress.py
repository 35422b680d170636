"""TensorRT's progress during a build, as reports."""

from __future__ import annotations

import time
from typing import Any

from modernrank.export.report import Report


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

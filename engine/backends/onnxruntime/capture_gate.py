"""Keep the other sessions of this process off the GPUs while ONNX Runtime captures a CUDA graph.

ONNX Runtime captures in CUDA's global mode: an allocation or a wait of any thread, on any GPU, then fails and breaks
the capture. Loading, runs and closing pass the gate side by side; a capture passes it alone. It waits until a model
that is being loaded is there, so a service loads and warms up its models before it takes traffic.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from modernrank.host import renew_after_fork


class CaptureGate:
    """Lets many pass as ``shared``, or one as ``alone``; who wants to pass alone is let in before later others."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Open the gate in a forked process, where those that passed it do not exist."""
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False
        self._want_alone = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Pass beside others, when nobody passes alone or waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._want_alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Pass when everyone has left, and keep everyone out meanwhile."""
        with self._changed:
            self._want_alone += 1
            self._changed.wait_for(lambda: not self._alone and not self._inside)
            self._want_alone -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


GATE = CaptureGate()

"""Several sessions behind one: each run goes to the device that has the least left to compute."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from modernrank.batching.packing import Batch, FloatArray, PackingLimits

from .base import Session, SessionInfo


class SpreadSession:
    """See ``Session``. The sessions must be of the same graph; a run's tokens are its cost."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = list(sessions)
        self._tokens = [0] * len(self._sessions)  # in flight, by session
        self._turn = [0] * len(self._sessions)  # when each was last chosen
        self._lock = threading.Lock()

    @property
    def info(self) -> SessionInfo:
        """What is running; ``streams`` and ``devices`` are those of all sessions."""
        every = [session.info for session in self._sessions]
        devices = tuple(device for info in every for device in info.devices)
        return replace(every[0], streams=sum(info.streams for info in every), devices=devices)

    @property
    def limits(self) -> PackingLimits:
        """Of one session, with the streams of all."""
        return replace(self._sessions[0].limits, streams=sum(session.limits.streams for session in self._sessions))

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        """See ``Session.run``."""
        cost = batch.input_ids.size
        with self._lock:
            least = min(range(len(self._sessions)), key=lambda i: (self._tokens[i], self._turn[i]))
            self._tokens[least] += cost
            self._turn[least] = max(self._turn) + 1
        try:
            return self._sessions[least].run(batch, side_by_side)
        finally:
            with self._lock:
                self._tokens[least] -= cost

    def close(self) -> None:
        """See ``Session.close``."""
        for session in self._sessions:
            session.close()

"""Backends made for a test: one that records what it runs, and one whose logits are not numbers."""

from __future__ import annotations

import threading

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.backends.base import Backend, BackendInfo
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy
from modernrank.errors import BackendError


class Wrapper(Backend):
    """Passes everything on to another backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.survives_fork = backend.survives_fork

    @property
    def info(self) -> BackendInfo:
        return self._backend.info

    @property
    def policy(self) -> BatchPolicy:
        return self._backend.policy

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        return self._backend.run(batch, side_by_side)

    def close(self) -> None:
        self._backend.close()


class Recording(Wrapper):
    """Keeps the batches that it runs, whether each had a share of the threads, and how often it was closed.

    With ``fail_next`` the next batch is an error.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.batches: list[Batch] = []
        self.shares: list[bool] = []
        self.closed = 0
        self.fail_next = False

    @property
    def pairs(self) -> int:
        """How many pairs were run."""
        return sum(int(batch.segment_ids.max(axis=1).sum()) for batch in self.batches)

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        self.batches.append(batch)
        self.shares.append(side_by_side)
        if self.fail_next:
            self.fail_next = False
            raise BackendError("this batch fails", rows=len(batch.input_ids), tokens=batch.input_ids.shape[1])
        return super().run(batch, side_by_side)

    def close(self) -> None:
        self.closed += 1
        super().close()


class NotANumber(Wrapper):
    """A backend of a model that overflows: all its logits are NaN."""

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        return np.full((len(batch.input_ids), batch.slots, 1), np.nan, np.float32)


class Gate(Wrapper):
    """Every run waits until ``open`` is set. ``begun`` counts the runs."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.open = threading.Event()
        self.begun = 0

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        self.begun += 1
        assert self.open.wait(60)
        return super().run(batch, side_by_side)

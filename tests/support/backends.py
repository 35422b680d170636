"""Backends that behave badly on purpose."""

from __future__ import annotations

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.backends.base import Backend, BackendInfo
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy


class NotANumber(Backend):
    """A backend of a model that overflows: all its logits are NaN."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def info(self) -> BackendInfo:
        return self._backend.info

    @property
    def policy(self) -> BatchPolicy:
        return self._backend.policy

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        return np.full((len(batch.input_ids), batch.slots, 1), np.nan, np.float32)

    def close(self) -> None:
        self._backend.close()

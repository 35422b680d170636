"""Several backends behind one: each batch goes to the device that has the fewest tokens left to compute."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from modernrank.arrays import FloatArray
from modernrank.batching.batch import Batch
from modernrank.batching.policy import BatchPolicy

from .base import Backend, BackendInfo


class MultiDeviceBackend(Backend):
    """Shares batches among backends of the same graph, one on each device. The cost of a batch is its tokens."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self._tokens = [0] * len(self._backends)  # in flight, by backend
        self._turn = [0] * len(self._backends)  # when each was last chosen
        self._lock = threading.Lock()

    @property
    def info(self) -> BackendInfo:
        """What is running; ``workers`` and ``devices`` are those of all backends together."""
        infos = [backend.info for backend in self._backends]
        devices = tuple(device for info in infos for device in info.devices)
        return replace(infos[0], workers=sum(info.workers for info in infos), devices=devices)

    @property
    def policy(self) -> BatchPolicy:
        """The policy of one backend, with the workers of all."""
        policies = [backend.policy for backend in self._backends]
        schedule = replace(policies[0].schedule, workers=sum(policy.schedule.workers for policy in policies))
        warm_up_runs = sum(policy.warm_up_runs for policy in policies)
        return replace(policies[0], schedule=schedule, warm_up_runs=warm_up_runs)

    def run(self, batch: Batch, side_by_side: bool = False) -> FloatArray:
        cost = batch.input_ids.size
        with self._lock:
            chosen = min(range(len(self._backends)), key=lambda i: (self._tokens[i], self._turn[i]))
            self._tokens[chosen] += cost
            self._turn[chosen] = max(self._turn) + 1
        try:
            return self._backends[chosen].run(batch, side_by_side)
        finally:
            with self._lock:
                self._tokens[chosen] -= cost

    def close(self) -> None:
        with ExitStack() as closing:  # all of them, even if one fails
            for backend in self._backends:
                closing.callback(backend.close)

"""What one call has in the queue: its batches, its results, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.batching.batch import PlannedBatch, unpack
from modernrank.batching.packing import Plan

from .urgency import Urgency
from .waiting_batches import WaitingBatches


class Place(Enum):
    """Where a call is."""

    WITH_CALLER = auto()  # its caller runs batches of it, or the last of them run
    ENTERING = auto()  # it waits for room in the queue
    WAITING = auto()  # batches of it wait in the queue


class Call:
    """A planned list of pairs on its way through the queue. The queue's lock guards what changes.

    Args:
        token_ids: int64 ``[tokens]`` of each pair.
        plan: its batches.
        labels: number of the model's labels.
        urgency: priority and deadline.

    Attributes:
        batches: those that have not been taken.
        logits: float32 ``[pairs, labels]``, complete when the call has ended without an error.
        error: what the call ended with, or None.
        on_end: called once, without the lock, by the thread that ends the call.
        is_gone: called with the lock: whether its caller cannot receive the result any more.
        clock: tokens that it has been served, from where the others stood when it came; ``FairOrder`` moves it.
        number: its place in the order of arrival.
        served: the number of the run at which it was served last, or came.
    """

    def __init__(self, token_ids: Sequence[IntArray], plan: Plan, labels: int, urgency: Urgency) -> None:
        self.token_ids = token_ids
        self.logits: FloatArray = np.empty((len(token_ids), labels), np.float32)
        self.urgency = urgency
        self.batches = WaitingBatches(plan)
        self.unfinished = len(plan.batches)
        self.has_all_threads = False  # a worker runs a batch of it with all threads at this moment
        self.own_run: Run | None = None  # its caller's thread runs this
        self.place = Place.WITH_CALLER
        self.counted = 0  # tokens of it that count towards the limit of the queue
        self.ended = False
        self.error: BaseException | None = None
        self.on_end: Callable[[], None] | None = None
        self.is_gone: Callable[[], bool] = _never_gone
        self.clock = 0.0
        self.number = self.served = 0
        self.submitted = time.monotonic()
        self.first_run: float | None = None

    def lengths(self, batch: PlannedBatch) -> list[int]:
        """The number of tokens of pairs in each row of a batch."""
        return [sum(len(self.token_ids[pair]) for pair in row) for row in batch.rows]


def _never_gone() -> bool:
    """A caller that waits in its own thread is never gone."""
    return False


@dataclass(frozen=True, eq=False)
class Run:
    """What a worker carries out: a batch, of one call or joined of several.

    planned: the batch; its pairs are numbered in the order of ``token_ids``.
    parts:   the batch of each call, with the call's own numbers.
    shares_threads: whether other runs go on beside it, so that it takes one worker's share of the threads.
    thread:  the thread that took it.
    """

    planned: PlannedBatch
    parts: tuple[tuple[Call, PlannedBatch], ...]
    shares_threads: bool
    thread: int = field(default_factory=threading.get_ident)

    @property
    def token_ids(self) -> Sequence[IntArray]:
        """int64 ``[tokens]`` of each pair of ``planned``."""
        if len(self.parts) == 1:
            return self.parts[0][0].token_ids
        return [call.token_ids[pair] for call, pair in self._pairs()]

    def unpack(self, outputs: FloatArray) -> None:
        """Copy the logits ``[rows, slots, labels]`` of the batch to the calls."""
        if len(self.parts) == 1:
            unpack(self.planned, outputs, out=self.parts[0][0].logits)
            return
        owners = list(self._pairs())
        for r, row in enumerate(self.planned.rows):
            for slot, number in enumerate(row):
                call, pair = owners[number]
                call.logits[pair] = outputs[r, slot]

    def split(self) -> Iterator[Run]:
        """The same work as a run for each call."""
        for call, batch in self.parts:
            yield Run(batch, ((call, batch),), self.shares_threads)

    def _pairs(self) -> Iterator[tuple[Call, int]]:
        """The call of each pair of ``planned`` and its number there."""
        for call, batch in self.parts:
            for row in batch.rows:
                for pair in row:
                    yield call, pair

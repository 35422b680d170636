"""Calls of made-up token ids, for tests of the queue."""

from __future__ import annotations

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.batching.packing import plan
from modernrank.batching.policy import BatchPolicy, PackingPolicy, SchedulePolicy, TokenBudget
from modernrank.queue.call import Call, Run
from modernrank.queue.urgency import Urgency


def processor_policy(workers: int = 2, budget: int = 1) -> BatchPolicy:
    """As on a processor: rows of one pair, nothing padded, batches of about ``budget`` tokens."""
    packing = PackingPolicy(TokenBudget(budget), pairs_per_row=1, minimum_fill=1.0)
    return BatchPolicy(packing, SchedulePolicy(workers, tokens_per_worker=1024))


def call_of(*lengths: int, policy: BatchPolicy | None = None, urgency: Urgency | None = None) -> Call:
    """A call of pairs of these lengths. The first token of each pair is its length."""
    ids = [np.full(length, length) for length in lengths]
    return Call(ids, plan(lengths, policy or processor_policy()), 1, urgency or Urgency())


def compute(run: Run) -> None:
    """A model whose logit is the number of tokens of a pair: fills in the results of a run."""
    outputs: FloatArray = np.zeros((len(run.planned.rows), run.planned.slots, 1), np.float32)
    for r, row in enumerate(run.planned.rows):
        for slot, pair in enumerate(row):
            outputs[r, slot] = len(run.token_ids[pair])
    run.unpack(outputs)


def logits_of(lengths: tuple[int, ...]) -> list[list[float]]:
    """What ``compute`` gives for pairs of these lengths."""
    return [[float(length)] for length in lengths]

"""The last step of training: the classifier's weights fitted once more, to queries that nothing was learned from.

Training meets its queries several times and comes to trust what it remembers of them. What the vector before the
classifier holds is good for other queries too; some hundred of these tell which of it to trust (Kirichenko, Izmailov
and Wilson, Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from .bm25_candidates import Topic, ndcg

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)  # of the squared distance from the weights before
FOLDS = 5


@dataclass(frozen=True)
class Reading:
    """A topic, and what the classifier sees of its candidates: float32 ``[candidates, hidden]``."""

    topic: Topic
    vectors: torch.Tensor


def refit(readings: Sequence[Reading], before: torch.Tensor, seed: int) -> tuple[torch.Tensor, float]:
    """The classifier's weights ``[hidden]`` with the penalty that does best on queries left out, and nDCG@10 on these.

    ``before`` are the weights from which it starts.
    """
    folds = np.random.default_rng(seed).permutation(len(readings)) % FOLDS
    gains = {penalty: _left_out(readings, before, folds, penalty) for penalty in PENALTIES}
    penalty = max(gains, key=gains.__getitem__)
    return _fit(readings, before, penalty), gains[penalty]


def mean_ndcg(readings: Sequence[Reading], weights: torch.Tensor) -> float:
    """nDCG@10 of the candidates' order by these weights."""
    orders = [torch.argsort(-(reading.vectors @ weights), stable=True).tolist() for reading in readings]
    return float(np.mean([ndcg(reading.topic, order) for reading, order in zip(readings, orders, strict=True)]))


def _left_out(readings: Sequence[Reading], before: torch.Tensor, folds: np.ndarray, penalty: float) -> float:
    """nDCG@10 of the queries of each fold, with weights fitted to the others."""
    gains, sizes = [], []
    for fold in range(FOLDS):
        learned = [reading for reading, own in zip(readings, folds, strict=True) if own != fold]
        tested = [reading for reading, own in zip(readings, folds, strict=True) if own == fold]
        gains.append(mean_ndcg(tested, _fit(learned, before, penalty)))
        sizes.append(len(tested))
    return float(np.average(gains, weights=sizes))


def _fit(readings: Sequence[Reading], before: torch.Tensor, penalty: float) -> torch.Tensor:
    """Cross entropy of a softmax over each query's candidates, where something relevant was found."""
    relevant = [torch.tensor([place in r.topic.relevant for place in r.topic.found]) for r in readings]
    kept = [i for i, found in enumerate(relevant) if found.any()]
    vectors = pad_sequence([readings[i].vectors for i in kept], batch_first=True)
    real = pad_sequence([torch.ones(len(readings[i].vectors), dtype=torch.bool) for i in kept], batch_first=True)
    wanted = pad_sequence([relevant[i] / relevant[i].sum() for i in kept], batch_first=True)
    weights = before.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        chances = (vectors @ weights).masked_fill(~real, -1e4).log_softmax(dim=1)
        value = -(wanted * chances).sum(dim=1).mean() + penalty * (weights - before).square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach()

"""Stages 4 and 6: the classifier's weights, fitted once more to queries that the model has not trained on.

Training meets its queries several times, and the classifier comes to trust what the model remembers of them. The vector
before the classifier is good for other queries too, and some hundred of these say which of its channels to trust
(Kirichenko, Izmailov and Wilson, Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..data.bm25_candidates import Topic, ndcg_at_10
from ..data.token_texts import IntArray

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)  # weights of the squared distance from the start
FOLDS = 5
MAX_ITERATIONS = 60  # maximum iterations of L-BFGS


@dataclass(frozen=True)
class CandidateVectors:
    """A query, and the classifier's inputs for its candidates: float32 ``[candidates, hidden]``."""

    topic: Topic
    vectors: torch.Tensor


def refit(queries: Sequence[CandidateVectors], start: torch.Tensor, seed: int) -> tuple[torch.Tensor, float]:
    """Fit the classifier's weights, with the penalty that is best in a cross-validation.

    Args:
        queries: The queries to fit to.
        start: The weights to start from, float32 ``[hidden]``.
        seed: The seed of the division into folds.

    Returns:
        The weights, fitted to all queries, and the nDCG@10 of the cross-validation with the same penalty.
    """
    folds = np.random.default_rng(seed).permutation(len(queries)) % FOLDS
    gains = {penalty: _cross_validate(queries, start, folds, penalty) for penalty in PENALTIES}
    penalty = max(gains, key=gains.__getitem__)
    return _fit(queries, start, penalty), gains[penalty]


def mean_ndcg(queries: Sequence[CandidateVectors], weights: torch.Tensor) -> float:
    """Return the mean nDCG@10 of the candidates in the order of their scores by these weights ``[hidden]``."""
    orders = [torch.argsort(-(query.vectors @ weights), stable=True).tolist() for query in queries]
    return float(np.mean([ndcg_at_10(query.topic, order) for query, order in zip(queries, orders, strict=True)]))


def _cross_validate(queries: Sequence[CandidateVectors], start: torch.Tensor, folds: IntArray, penalty: float) -> float:
    """Return the nDCG@10 of each fold's queries by weights that were fitted to the other folds."""
    gains, sizes = [], []
    for fold in range(FOLDS):
        fitted = [query for query, own in zip(queries, folds, strict=True) if own != fold]
        left_out = [query for query, own in zip(queries, folds, strict=True) if own == fold]
        gains.append(mean_ndcg(left_out, _fit(fitted, start, penalty)))
        sizes.append(len(left_out))
    return float(np.average(gains, weights=sizes))


def _fit(queries: Sequence[CandidateVectors], start: torch.Tensor, penalty: float) -> torch.Tensor:
    """Minimise the cross entropy of a softmax over each query's candidates, of which at least one is relevant."""
    labels = [torch.tensor([i in query.topic.relevant for i in query.topic.candidates]) for query in queries]
    kept = [i for i, relevant in enumerate(labels) if relevant.any()]
    vectors = pad_sequence([queries[i].vectors for i in kept], batch_first=True)
    real = pad_sequence([torch.ones(len(queries[i].vectors), dtype=torch.bool) for i in kept], batch_first=True)
    targets = pad_sequence([labels[i] / labels[i].sum() for i in kept], batch_first=True)
    weights = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weights], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        log_shares = (vectors @ weights).masked_fill(~real, -1e4).log_softmax(dim=1)
        value = -(targets * log_shares).sum(dim=1).mean() + penalty * (weights - start).square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach()

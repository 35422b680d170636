"""Weights to start from: what the texts say of each token, and attention that looks for equal tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from transformers import ModernBertForSequenceClassification

from .small_modernbert import PAD, VOCABULARY

RARITY_CHANNELS = 4
NEIGHBOURS = 8  # tokens to either side that count as such


def start_from_text(model: ModernBertForSequenceClassification, ids: Sequence[Sequence[int]], seed: int) -> None:
    """Give the embeddings what the texts tell of each token, and let attention look for equal tokens.

    Embeddings: the leading singular vectors of the tokens' positive pointwise mutual information, plus as much noise,
    so that no two tokens are alike, and how rare each token is, as BM25 weighs them. Queries and keys: the same
    orthonormal rows, so that a token attends to its like (Trockman and Kolter, Mimetic Initialization of
    Self-Attention Layers, 2023); values: orthonormal rows too.
    """
    rng = np.random.default_rng(seed)
    hidden = model.config.hidden_size
    vectors, rarity = _token_vectors(ids, hidden, rng)
    table = (vectors + rng.standard_normal(vectors.shape)) / math.sqrt(2)
    table[:, :RARITY_CHANNELS] = rarity[:, None]
    table *= 0.02
    with torch.no_grad():
        model.model.embeddings.tok_embeddings.weight.copy_(torch.from_numpy(table))
        for layer in model.model.layers:
            rows = torch.linalg.qr(torch.randn(hidden, hidden))[0]
            layer.attn.Wqkv.weight[:hidden] = rows
            layer.attn.Wqkv.weight[hidden : 2 * hidden] = rows
            layer.attn.Wqkv.weight[2 * hidden :] = 0.5 * torch.linalg.qr(torch.randn(hidden, hidden))[0]
            layer.attn.Wo.weight.normal_(std=0.04)


def _token_vectors(ids: Sequence[Sequence[int]], size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vectors ``[VOCABULARY, size]`` and rarities ``[VOCABULARY]``, of unit variance."""
    gap = np.full(NEIGHBOURS, PAD)
    stream = np.concatenate([np.concatenate([text, gap]) for text in ids]).astype(np.int64)
    counts = scipy.sparse.csr_matrix((VOCABULARY, VOCABULARY))
    for distance in range(1, NEIGHBOURS + 1):
        left, right = stream[:-distance], stream[distance:]
        real = (left != PAD) & (right != PAD)
        weights = np.full(int(real.sum()), 1.0 / distance)
        counts += scipy.sparse.csr_matrix((weights, (left[real], right[real])), shape=counts.shape)
    pairs = (counts + counts.T).tocoo()
    total = np.asarray(pairs.sum(axis=1)).ravel() + 1e-12
    smooth = total**0.75 / (total**0.75).sum()  # Levy, Goldberg and Dagan, 2015: frequent neighbours count for less
    information = np.maximum(np.log(pairs.data / total[pairs.row] / smooth[pairs.col]), 0)
    matrix = scipy.sparse.csr_matrix((information, (pairs.row, pairs.col)), shape=pairs.shape)
    left, values, _ = scipy.sparse.linalg.svds(matrix, k=size, random_state=rng)
    vectors = left * np.sqrt(values)
    vectors -= vectors.mean(axis=0)
    rarity = -np.log(np.bincount(stream, minlength=VOCABULARY) + 1.0)
    return vectors / (vectors.std(axis=1, keepdims=True) + 1e-6), (rarity - rarity.mean()) / rarity.std()

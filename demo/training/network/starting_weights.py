"""Stage 1: the weights that training starts from.

The embeddings start with statistics of the texts, and attention starts as a search for equal tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg
import torch
from transformers import ModernBertForSequenceClassification

from .small_modernbert import PAD, VOCABULARY

FloatArray = npt.NDArray[np.float64]

RARITY_CHANNELS = 4  # these channels of an embedding hold the token's rarity
NEIGHBOURS = 8  # tokens on either side count as neighbours
EMBEDDING_SCALE = 0.02
VALUE_SCALE = 0.5
OUTPUT_STD = 0.04
SMOOTHING = 0.75  # exponent of the neighbours' frequencies: Levy, Goldberg and Dagan, 2015


def start_from_texts(model: ModernBertForSequenceClassification, ids: Sequence[Sequence[int]], seed: int) -> None:
    """Set the model's embeddings and its attention weights, in place.

    An embedding is the sum of the token's leading singular vectors of positive pointwise mutual information and as much
    noise, so that no two tokens are alike. Its first channels hold the token's rarity, as BM25 weighs words. Queries
    and keys have the same orthonormal rows, so that a token attends to tokens like it (Trockman and Kolter, Mimetic
    Initialization of Self-Attention Layers, 2023). Values have orthonormal rows too.

    Args:
        model: The untrained model.
        ids: The token ids of each text, without special tokens.
        seed: The seed of the embeddings' noise. The attention weights come from PyTorch's own generator.
    """
    rng = np.random.default_rng(seed)
    hidden = model.config.hidden_size
    vectors, rarity = _token_vectors(ids, hidden, rng)
    table = (vectors + rng.standard_normal(vectors.shape)) / math.sqrt(2)
    table[:, :RARITY_CHANNELS] = rarity[:, None]
    table *= EMBEDDING_SCALE
    with torch.no_grad():
        model.model.embeddings.tok_embeddings.weight.copy_(torch.from_numpy(table))
        for layer in model.model.layers:
            rows = torch.linalg.qr(torch.randn(hidden, hidden))[0]
            layer.attn.Wqkv.weight[:hidden] = rows
            layer.attn.Wqkv.weight[hidden : 2 * hidden] = rows
            layer.attn.Wqkv.weight[2 * hidden :] = VALUE_SCALE * torch.linalg.qr(torch.randn(hidden, hidden))[0]
            layer.attn.Wo.weight.normal_(std=OUTPUT_STD)


def _token_vectors(ids: Sequence[Sequence[int]], size: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return vectors ``[VOCABULARY, size]`` and rarities ``[VOCABULARY]``, both of mean 0 and unit variance."""
    gap = np.full(NEIGHBOURS, PAD)  # so that tokens of different texts are no neighbours
    stream = np.concatenate([np.concatenate([text, gap]) for text in ids]).astype(np.int64)
    left, values, _ = scipy.sparse.linalg.svds(_mutual_information(stream), k=size, random_state=rng)
    vectors = left * np.sqrt(values)
    vectors -= vectors.mean(axis=0)
    rarity = -np.log(np.bincount(stream, minlength=VOCABULARY) + 1.0)
    return vectors / (vectors.std(axis=1, keepdims=True) + 1e-6), (rarity - rarity.mean()) / rarity.std()


def _mutual_information(stream: npt.NDArray[np.int64]) -> scipy.sparse.csr_matrix:
    """Return the positive pointwise mutual information of neighbouring tokens, ``[VOCABULARY, VOCABULARY]``.

    A neighbour at distance n counts 1/n. Frequent neighbours count for less.
    """
    counts = scipy.sparse.csr_matrix((VOCABULARY, VOCABULARY))
    for distance in range(1, NEIGHBOURS + 1):
        left, right = stream[:-distance], stream[distance:]
        real = (left != PAD) & (right != PAD)
        weights = np.full(int(real.sum()), 1.0 / distance)
        counts += scipy.sparse.csr_matrix((weights, (left[real], right[real])), shape=counts.shape)
    pairs = (counts + counts.T).tocoo()
    total = np.asarray(pairs.sum(axis=1)).ravel() + 1e-12
    smooth = total**SMOOTHING / (total**SMOOTHING).sum()
    information = np.maximum(np.log(pairs.data / total[pairs.row] / smooth[pairs.col]), 0)
    return scipy.sparse.csr_matrix((information, (pairs.row, pairs.col)), shape=pairs.shape)

"""The scores are those of ``transformers``, and not those of the mistakes that others made with this model."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from modernrank import Reranker
from support.checkpoints import NAMES, golden

TOLERANCE = 1e-5
ARTIFACTS = [f"{name}{dialect}" for name in NAMES for dialect in ("", "-standard")]


def expected(name: str) -> tuple[list[tuple[str, str]], np.ndarray]:
    data = golden(name.removesuffix("-standard"))
    logits = np.array(data["logits"], np.float32)
    return [tuple(pair) for pair in data["pairs"]], logits[:, 0] if logits.shape[1] == 1 else logits


@pytest.mark.parametrize("name", ARTIFACTS)
def test_scores_of_pairs_together_are_those_of_transformers(artifacts: Path, name: str) -> None:
    pairs, logits = expected(name)
    with Reranker.load(artifacts / name) as reranker:
        assert reranker.score(pairs) == pytest.approx(logits, abs=TOLERANCE)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_scores_of_pairs_alone_and_shuffled_are_those_of_transformers(artifacts: Path, name: str) -> None:
    pairs, logits = expected(name)
    with Reranker.load(artifacts / name) as reranker:
        alone = np.concatenate([reranker.score([pair]) for pair in pairs])
        assert alone == pytest.approx(logits, abs=TOLERANCE)
        order = np.random.default_rng(0).permutation(len(pairs))
        assert reranker.score([pairs[i] for i in order]) == pytest.approx(logits[order], abs=TOLERANCE)


def test_scores_of_two_pairs_together_are_those_of_transformers(reranker: Reranker) -> None:
    """A short pair shares the row or the batch of a long one, in both orders."""
    pairs, logits = expected("tiny")
    for first, second in itertools.permutations(range(0, len(pairs), 3), 2):
        assert reranker.score([pairs[first], pairs[second]]) == pytest.approx(logits[[first, second]], abs=TOLERANCE)


@pytest.mark.parametrize("mistake", sorted(golden("tiny")["mistakes"]))
def test_the_golden_logits_tell_mistakes_apart(reranker: Reranker, mistake: str) -> None:
    pairs, _ = expected("tiny")
    wrong = np.array(golden("tiny")["mistakes"][mistake], np.float32)[:, 0]
    assert np.abs(reranker.score(pairs) - wrong).max() > 1000 * TOLERANCE

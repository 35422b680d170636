"""Torch on packed batches: the scores of the padded model, for both poolings and both kinds of layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modernrank.benchmarks.peers.peer_process import Settings, torch_packed, transformers_torch
from support.checkpoints import NAMES, checkpoint

pytestmark = pytest.mark.parity

# Longer than the windows of the sliding layers, and of many lengths.
PAIRS = [(f"query {i}", "x y " * words) for i, words in enumerate((1, 7, 90, 30, 300, 62, 3, 180, 12))]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_padded_batches(name: str, tmp_path: Path) -> None:
    settings = Settings(checkpoint(name), tmp_path, tmp_path, threads=1)
    padded = np.array(transformers_torch(settings, "fp32")(PAIRS, 4))
    packed = np.array(torch_packed(settings, "fp32")(PAIRS, 4))
    assert np.abs(packed - padded).max() < 1e-4

"""Padded graphs in the runtimes that they are written for. Their environments have no modernrank."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

VARIABLE = "MODERNRANK_PADDED"  # the folder of the demo model's artifact with a padded graph
GOLDEN = Path(__file__).parents[1] / "data" / "demo-golden.json"
TOLERANCE = 1e-4

# The environment of the default suite has none of the runtimes.
collect_ignore_glob = [] if VARIABLE in os.environ else ["*"]


@dataclass(frozen=True)
class Golden:
    """What ``transformers`` gives for the demo model: text pairs, their token ids, and a logit for each."""

    pairs: list[tuple[str, str]]
    input_ids: list[list[int]]
    logits: np.ndarray

    def inputs(self, side: str) -> dict[str, Any]:
        """All pairs as one batch with padding on one side, wider than the longest."""
        width = max(map(len, self.input_ids)) + 5
        arrays = {name: np.zeros((len(self.input_ids), width), np.int64) for name in ("input_ids", "attention_mask")}
        for row, ids in enumerate(self.input_ids):
            place = slice(0, len(ids)) if side == "right" else slice(width - len(ids), width)
            arrays["input_ids"][row, place] = ids
            arrays["attention_mask"][row, place] = 1
        return arrays

    def agree(self, logits: Any) -> bool:
        """Whether a runtime's logits are those of ``transformers``."""
        return bool(np.abs(np.ravel(logits) - self.logits).max() <= TOLERANCE)


@pytest.fixture(scope="session")
def golden() -> Golden:
    known = json.loads(GOLDEN.read_text())
    return Golden([tuple(pair) for pair in known["pairs"]], known["input_ids"], np.array(known["logits"]))


@pytest.fixture(scope="session")
def artifact() -> Path:
    return Path(os.environ[VARIABLE])

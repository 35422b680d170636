"""The checkpoints that the tests read: two tiny ones of random weights, and the trained demo model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .layout import ROOT

DATA = ROOT / "tests" / "data"
NAMES = ("tiny", "tiny-cls")
DEMO = ROOT / "demo" / "model"


def checkpoint(name: str) -> Path:
    """The folder of a tiny checkpoint."""
    return DATA / name


def golden(name: str) -> dict[str, Any]:
    """What ``transformers`` gives for a tiny checkpoint: pairs, token ids and logits."""
    known: dict[str, Any] = json.loads((DATA / name / "golden.json").read_text())
    return known

"""The versions of ONNX Runtime that are checked, and what is known of one of them after it ran."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The two ends of the range that modernrank supports. The Makefile installs them beside each other.
FLOOR, NEWEST = VERSIONS = tuple(Path(__file__).with_name("versions.txt").read_text().split())

# What a line on standard output begins with that says which shape runs next.
ANNOUNCEMENT = "Shape: "

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Measured:
    """What one version of ONNX Runtime does with one model in one precision.

    facts:     what ``measure.py`` writes.
    attention: the kernels of each attention node, by the shape that ran.
    """

    facts: dict[str, Any]
    attention: dict[str, dict[str, set[str]]]


def installed(version: str) -> Path:
    """The folder into which ``make placement-check`` installs a version of onnxruntime-gpu."""
    return Path(sys.prefix) / f"onnxruntime-{version}"

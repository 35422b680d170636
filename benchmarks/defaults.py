"""Choices and defaults that the command line shows. It reads them on every start, so this module imports little."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ScenarioName = Literal["query", "single", "offline", "server", "mixed", "callers", "cold"]
SCENARIOS: tuple[ScenarioName, ...] = ("query", "single")

SECONDS = 10.0  # minimum duration of a measurement
SAMPLES = 10  # minimum number of calls in a measurement
CALLERS = 32  # of the callers scenario
CLIENTS = 16  # of a saturated server
PEAK_SECONDS = 1.0  # long enough for the peak rate of matrix products on a machine with some noise

# The same torch in all environments of peers, so that they differ in their runtimes alone. Another build is, say, a CPU
# wheel's address: torch from PyPI brings gigabytes of CUDA on Linux.
TORCH = "torch==2.13.0"
PEER_FOLDER = Path(".peers")
PEER_BATCHES = (1, 4, 8, 32)
ROUNDS = 3

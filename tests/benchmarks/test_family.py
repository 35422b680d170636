"""The sizes of a family: the checkpoints that are written can be exported, and each step reports its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modernrank.benchmarks.family.checkpoints import SIZES, Size, write_checkpoint
from modernrank.export.inspection import inspect_checkpoint
from support.checkpoints import DEMO

SMALL = Size(width=32, layers=2, heads=2, inner=48)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    write_checkpoint(folder / "checkpoint", SMALL, DEMO)
    return folder


@pytest.mark.filterwarnings("ignore:.*has 8000 tokens")
def test_a_checkpoint_can_be_exported_and_has_the_head_of_the_family(work: Path) -> None:
    found = inspect_checkpoint(work / "checkpoint")
    assert found.can_be_exported, found.obstacles
    assert found.described == ["ModernBertModel", "Pooling", "Dense", "LayerNorm", "Dense"]
    assert (found.layers, found.hidden_size, found.pooling, found.activation) == (2, 32, "cls", "logit")


def test_the_sizes_have_the_parameters_that_their_names_say() -> None:
    for name, size in SIZES.items():
        layer = 4 * size.width**2 + 3 * size.width * size.inner
        millions = (50_368 * size.width + size.layers * layer) / 1e6
        named = float(name[:-1]) * (1000 if name.endswith("B") else 1)
        assert millions == pytest.approx(named, rel=0.03), name


def test_every_step_reports_seconds_and_memory(work: Path) -> None:
    for step, figures in (("export", {"seconds", "artifact_bytes"}), ("score", {"load_seconds", "seconds", "pairs"})):
        command = [sys.executable, "-m", "modernrank.benchmarks.family.steps", step, str(work), "fp32"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        assert figures | {"peak_bytes"} <= report.keys()
        assert report["peak_bytes"] > 1e7

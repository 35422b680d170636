"""The examples in the docstrings of ``benchmarks`` run."""

import doctest
import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["fat_binary", "gpu_bundle", "run", "reporting.compare", "reporting.result"])
def test_the_examples_in_docstrings_run(module: str, artifacts: Path) -> None:
    loaded = importlib.import_module(f"modernrank.benchmarks.{module}")
    results = doctest.testmod(loaded, extraglobs={"TINY": artifacts / "tiny"})
    assert results.attempted > 0
    assert results.failed == 0

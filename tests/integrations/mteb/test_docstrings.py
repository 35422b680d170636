"""The examples of the docstrings."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.integrations


@pytest.mark.parametrize("module", ["search.txtai", "evaluation.mteb"])
def test_the_examples_in_docstrings_hold(module: str, artifacts: Path) -> None:
    found = importlib.import_module(f"modernrank.integrations.{module}")
    result = doctest.testmod(found, extraglobs={"TINY": artifacts / "tiny"})

    assert result.attempted > 0
    assert result.failed == 0

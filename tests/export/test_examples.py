"""The examples in the docstrings of ``export`` run."""

from __future__ import annotations

import doctest
import importlib

import pytest

from support.layout import ROOT

FOLDER = ROOT / "export"
FILES = [path.relative_to(FOLDER) for path in sorted(FOLDER.rglob("*.py")) if ">>> " in path.read_text()]
MODULES = [".".join(("modernrank.export", *file.with_suffix("").parts)) for file in FILES]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0

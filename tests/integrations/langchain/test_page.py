"""The examples of the page and of the docstrings."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

from modernrank.integrations import langchain, ranking
from support.pages import run_examples

pytestmark = pytest.mark.integrations


def test_the_page_holds(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "demo").symlink_to(demo)
    monkeypatch.chdir(tmp_path)

    run_examples("docs/integrations/langchain.md")


@pytest.mark.parametrize("module", [langchain, ranking])
def test_the_examples_in_docstrings_hold(module: ModuleType, artifacts: Path) -> None:
    result = doctest.testmod(module, extraglobs={"TINY": artifacts / "tiny"})

    assert result.attempted > 0
    assert result.failed == 0

"""The examples of the page and of the docstrings."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from haystack_integrations.components.rankers.modernrank import ranker

from support.pages import run_examples

pytestmark = pytest.mark.integrations


def test_the_page_holds(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "demo").symlink_to(demo)
    monkeypatch.chdir(tmp_path)

    run_examples("docs/integrations/haystack.md")


def test_the_examples_in_docstrings_hold(artifacts: Path) -> None:
    result = doctest.testmod(ranker, extraglobs={"TINY": artifacts / "tiny"})

    assert result.attempted > 0
    assert result.failed == 0

"""The examples of the page that need sentence-transformers and frameworks run, in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modernrank.export import export_checkpoint
from modernrank.integrations.sentence_transformers.module import ModernRank
from support.checkpoints import DEMO
from support.layout import ROOT

pytestmark = pytest.mark.integrations

PAGE = ROOT / "docs" / "integrations" / "sentence-transformers.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_checkpoint(DEMO, tmp_path / "artifacts" / "music", frameworks=["sentence-transformers"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert len(examples) == 2
    model = names["model"]
    assert isinstance(model[0], ModernRank)  # type: ignore[index]

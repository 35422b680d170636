"""``modernrank mcp`` where its SDK is not installed; ``make integrations`` runs it where it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from modernrank.cli import main


@pytest.mark.skipif(importlib.util.find_spec("mcp") is not None, reason="the SDK is installed")
def test_without_the_sdk_one_line_says_what_to_install(artifacts: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", str(artifacts / "tiny")]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "pip install 'modernrank[cpu,mcp]'" in printed.err

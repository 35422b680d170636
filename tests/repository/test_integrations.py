"""Integrations without their frameworks: the runtime imports none of them, and each says what to install."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib

import pytest

from support.layout import ROOT
from support.source import FOLDERS, modules, name_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = [name_of(path) for folder in FOLDERS if folder.startswith("integrations") for path in modules(folder)]


def missing(module: str) -> str:
    """What is said where the framework of a module is missing; empty where it is installed, or none is needed."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_framework_is_one_line_that_says_what_to_install(module: str) -> None:
    message = missing(module)
    if message:
        assert "\n" not in message
        extras = re.search(r"pip install 'modernrank\[([\w,-]+)\]'", message)
        assert extras is not None, message
        assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_runtime_imports_no_integration() -> None:
    code = "import sys, modernrank; print([name for name in sys.modules if 'integrations' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

"""Python packages made for a test, so that the search for installed ones finds them by the ordinary way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **packages: str) -> None:
    """Put packages on the path, as modules of their own; ``cuda__bindings`` is ``cuda.bindings``.

    Args:
        monkeypatch: takes them away after the test.
        folder: where they are written.
        packages: the source of each one, by its name.
    """
    for name, source in packages.items():
        parts = name.split("__")
        package = folder.joinpath(*parts)
        package.mkdir(parents=True, exist_ok=True)
        for depth in range(1, len(parts)):
            (folder.joinpath(*parts[:depth]) / "__init__.py").touch()
        (package / "__init__.py").write_text(source)
        for loaded in [module for module in sys.modules if module.partition(".")[0] == parts[0]]:
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.syspath_prepend(str(folder))
    for name in packages:
        top = name.partition("__")[0]
        monkeypatch.setitem(sys.modules, top, sys.modules.get(top))  # type: ignore[arg-type]
        monkeypatch.delitem(sys.modules, top)

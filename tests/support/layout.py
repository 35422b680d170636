"""Which folder installs as which package, read from the one table in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def package_folders() -> dict[str, str]:
    """Folder by package, such as ``{"modernrank.export": "export"}``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders: dict[str, str] = project["tool"]["setuptools"]["package-dir"]
    return folders


def files_of(folder: str, pattern: str) -> list[Path]:
    """The files of a package's folder, sorted, without those of folders below it that are packages of their own."""
    apart = [ROOT / other for other in package_folders().values() if Path(folder) in Path(other).parents]
    paths = (ROOT / folder).rglob(pattern)
    return sorted(path for path in paths if not any(path.is_relative_to(other) for other in apart))

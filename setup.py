"""Finds the packages below each folder of the ``package-dir`` table in pyproject.toml, which says everything else."""

import tomllib
from pathlib import Path, PurePosixPath

from setuptools import find_packages, setup

project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))
roots: dict[str, str] = project["tool"]["setuptools"]["package-dir"]


def packages_below(folder: str) -> list[str]:
    """Their names from the folder on, without those of folders that have a line of their own in the table."""
    paths = [PurePosixPath(other) for other in roots.values() if other != folder]
    apart = [".".join(path.relative_to(folder).parts) for path in paths if path.is_relative_to(folder)]
    return find_packages(folder, exclude=[pattern for name in apart for pattern in (name, f"{name}.*")])


setup(
    packages=[
        name for root, folder in roots.items() for name in (root, *(f"{root}.{n}" for n in packages_below(folder)))
    ]
)

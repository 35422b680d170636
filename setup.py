"""Finds the packages below each folder of the ``package-dir`` table in pyproject.toml, which says everything else."""

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))
roots: dict[str, str] = project["tool"]["setuptools"]["package-dir"]
setup(
    packages=[
        name for root, folder in roots.items() for name in (root, *(f"{root}.{n}" for n in find_packages(folder)))
    ]
)

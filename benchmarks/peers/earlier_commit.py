"""Earlier commits of this repository as contenders: what a change made faster or slower, side by side in one run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.errors import InputError

from . import own_process
from .contenders import Contender, our_contender

# Runs a module of the commit's own packages, which lie in the folder that is the first argument.
RUN_FROM = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def versions(
    artifact: Artifact,
    precision: str,
    commits: list[str],
    folder: Path,
    load_options: Mapping[str, Any],
    earlier: Artifact | None = None,
) -> list[Contender]:
    """The version that runs and earlier commits, each in a process of its own.

    Args:
        artifact: what all of them run.
        precision: of the artifact, for all of them.
        commits: names that git knows, such as ``"HEAD~3"``. They must have the module that runs contenders.
        folder: keeps the sources of the commits.
        load_options: further arguments of ``Reranker.load``, which all of them must take.
        earlier: what the commits run instead of ``artifact``, as an earlier version exported it.

    Raises:
        InputError: this is not a checkout, or git does not know a commit.
    """
    now = our_contender(artifact, precision, load_options)
    contenders = [replace(now, name=f"{now.name}, this version")]
    for commit in commits:
        packages = _packages_of(commit, folder)
        start = (sys.executable, "-c", RUN_FROM, str(packages), own_process.__name__)
        before = our_contender(earlier or artifact, precision, load_options, start)
        contenders.append(replace(before, name=f"{before.name}, {packages.parent.name}"))
    return contenders


def _packages_of(commit: str, folder: Path) -> Path:
    """The folder with the packages of a commit, as pip installs them. Its sources lie beside it."""
    root = Path(_git("rev-parse", "--show-toplevel"))
    name = _git("rev-parse", "--short=10", f"{commit}^{{commit}}")
    target = (folder / "commits" / name).resolve()
    packages = target / "packages"
    if not packages.is_dir():
        sources = target / "sources"
        sources.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", str(root), "archive", name], capture_output=True, check=True).stdout
        subprocess.run(["tar", "--extract", "--directory", str(sources)], input=archive, check=True)
        links = sources / "tests" / "support" / "link_tree.py"
        subprocess.run([sys.executable, str(links), str(packages)], check=True)
    return packages


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).resolve().parent), *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise InputError(
            f"`git {' '.join(arguments)}` fails: {done.stderr.strip()}; earlier commits require a checkout of the "
            "repository, installed with `pip install --editable`"
        )
    return done.stdout.strip()

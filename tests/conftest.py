"""Fixtures: the tiny checkpoints of ``tests/data`` and the artifacts made from them, once for all tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from modernrank import Reranker
from modernrank.export import export_checkpoint
from support.checkpoints import DEMO, NAMES, checkpoint

# The same examples in every run, and no deadline: these machines are shared and noisy.
settings.register_profile("modernrank", deadline=None, derandomize=True)
settings.load_profile("modernrank")


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each checkpoint in three dialects (``tiny``, ``tiny-standard``, ``tiny-padded``), and ``tiny-int8``."""
    folder = tmp_path_factory.mktemp("artifacts")
    for name in NAMES:
        export_checkpoint(checkpoint(name), folder / name)
        for graph in ("standard", "padded"):
            export_checkpoint(checkpoint(name), folder / f"{name}-{graph}", graph=graph)
    export_checkpoint(checkpoint("tiny"), folder / "tiny-int8", precision="int8")
    return folder


@pytest.fixture(scope="session")
def some_of_the_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first twenty queries of the trained demo model's held-out set, with their candidates and judgements."""
    folder = tmp_path_factory.mktemp("evaluation") / "some"
    shutil.copytree(DEMO / "evaluation", folder)
    queries = (folder / "queries.jsonl").read_text().splitlines(keepends=True)[:20]
    (folder / "queries.jsonl").write_text("".join(queries))
    names = {json.loads(line)["_id"] for line in queries} | {"query-id"}
    for file in ("candidates.run", "qrels/test.tsv"):
        lines = (folder / file).read_text().splitlines(keepends=True)
        (folder / file).write_text("".join(line for line in lines if line.split()[0] in names))
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, some_of_the_evaluation: Path) -> Path:
    """The artifact of the trained demo model, in float32 and int8, its quality measured on twenty queries."""
    folder = tmp_path_factory.mktemp("trained") / "demo"
    export_checkpoint(DEMO, folder, precision=["fp32", "int8"], evaluation=some_of_the_evaluation)
    return folder


@pytest.fixture
def artifact(artifacts: Path, tmp_path: Path) -> Path:
    """A copy of the ``tiny`` artifact, to damage."""
    return Path(shutil.copytree(artifacts / "tiny", tmp_path / "artifact"))


@pytest.fixture
def broken_checkpoint(tmp_path: Path) -> Path:
    """A copy of the ``tiny`` checkpoint, to damage."""
    return Path(shutil.copytree(checkpoint("tiny"), tmp_path / "checkpoint"))


@pytest.fixture(scope="session")
def reranker(artifacts: Path) -> Iterator[Reranker]:
    with Reranker.load(artifacts / "tiny") as loaded:
        yield loaded

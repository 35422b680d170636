"""What the tests of all libraries rank, and how ``Reranker`` ranks it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from modernrank import RankedDocument, Reranker
from modernrank.export import export_checkpoint
from support.checkpoints import DEMO
from support.layout import ROOT

# Only the environment of this folder has these libraries.
collect_ignore_glob = [] if importlib.util.find_spec("lancedb") else ["*"]
QUERY = "play music"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of the trained demo model, in float32 only, which is exported in a second."""
    folder = tmp_path_factory.mktemp("trained") / "demo"
    export_checkpoint(DEMO, folder)
    return folder


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def model(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def several_labels(artifacts: Path) -> Iterator[Reranker]:
    with Reranker.load(artifacts / "tiny-cls") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def ranking(model: Reranker, documents: list[str]) -> list[RankedDocument]:
    """By the scores that a CrossEncoder gives."""
    return model.rank(QUERY, documents, activation="model")


@pytest.fixture(scope="session")
def logits(model: Reranker, documents: list[str]) -> list[RankedDocument]:
    return model.rank(QUERY, documents)


@pytest.fixture(scope="session")
def many(documents: list[str]) -> list[str]:
    """Thousands of different texts."""
    return [f"{number} {documents[number % len(documents)]}" for number in range(3000)]


@pytest.fixture
def in_folder(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which the pages' examples find the demo model."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "demo").symlink_to(demo)
    monkeypatch.chdir(tmp_path)

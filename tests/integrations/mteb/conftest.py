"""The demo model, and its evaluation set as tasks of MTEB."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modernrank import Reranker
from modernrank.evaluation.formats import EvaluationSet, read_folder
from modernrank.export import export_checkpoint
from support.checkpoints import DEMO
from support.layout import ROOT

if TYPE_CHECKING:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

# Only the environment of this folder has MTEB.
collect_ignore_glob = [] if importlib.util.find_spec("mteb") else ["*"]


@pytest.fixture(autouse=True, scope="session")
def offline() -> Iterator[None]:
    """Nothing of these tests is on a hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of the trained demo model, in float32 only, which is exported in a second."""
    folder = tmp_path_factory.mktemp("trained") / "demo"
    export_checkpoint(DEMO, folder)
    return folder


@pytest.fixture(scope="session")
def model(demo: Path) -> Iterator[Reranker]:
    with Reranker.load(demo, precision="fp32") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def several_labels(artifacts: Path) -> Iterator[Reranker]:
    with Reranker.load(artifacts / "tiny-cls") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return (ROOT / "demo" / "documents.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def data(some_of_the_evaluation: Path) -> EvaluationSet:
    return read_folder(some_of_the_evaluation)


@pytest.fixture
def in_folder(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which the pages' examples find the demo model."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "demo").symlink_to(demo)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def reranking(data: EvaluationSet) -> AbsTaskRetrieval:
    """The evaluation set as a reranking task: its candidates are those of BM25."""
    return task_of(data, "Reranking", data.candidates)


@pytest.fixture
def retrieval(data: EvaluationSet) -> AbsTaskRetrieval:
    """The evaluation set as a retrieval task, without candidates."""
    return task_of(data, "Retrieval", None)


def task_of(data: EvaluationSet, kind: str, candidates: dict[str, list[str]] | None) -> AbsTaskRetrieval:
    from mteb import TaskMetadata
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    class Descriptions(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"PackageDescriptions{kind}",
            description="Synopses of packages, and the descriptions that answer them.",
            reference=None,
            dataset={"path": "local/descriptions", "revision": data.sha256},
            type=kind,
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, num_proc: int | None = None, **options: object) -> None:
            if self.data_loaded:
                return
            self.dataset = {"default": {"test": _split(data, candidates)}}
            self.data_loaded = True

    return Descriptions()


def _split(data: EvaluationSet, candidates: dict[str, list[str]] | None) -> dict[str, object]:
    from datasets import Dataset

    titled = [(name, *text.partition(" ")) for name, text in data.documents.items()]  # MTEB joins them again
    return {
        "corpus": Dataset.from_list([{"id": name, "title": title, "text": text} for name, title, _, text in titled]),
        "queries": Dataset.from_list([{"id": name, "text": text} for name, text in data.queries.items()]),
        "relevant_docs": {query: dict(grades) for query, grades in data.qrels.items()},
        "top_ranked": candidates,
    }

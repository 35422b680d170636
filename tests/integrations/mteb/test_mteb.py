"""MTEB: our evaluation set as a task, ranked by the protocol of cross encoders."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models import ModelMeta
from mteb.models.models_protocols import CrossEncoderProtocol, SearchProtocol

from modernrank import AsyncReranker, ClosedError, InputError, Reranker
from modernrank.cli import main
from modernrank.evaluation.compare import compare_artifacts
from modernrank.evaluation.formats import EvaluationSet, read_folder
from modernrank.integrations.evaluation.mteb import ModernRankCrossEncoder
from modernrank.integrations.evaluation.mteb_folder import write_folder
from support.pages import run_examples

pytestmark = pytest.mark.integrations


class AtRandom:
    """A first stage: it finds half of the corpus, and each query's own document."""

    mteb_model_meta = ModelMeta.create_empty({"name": "some/first-stage", "revision": "1"})

    def index(self, corpus: Dataset, **options: Any) -> None:
        self.names = list(corpus["id"])

    def search(self, queries: Dataset, **options: Any) -> dict[str, dict[str, float]]:
        scores = np.random.default_rng(0).random((len(queries), len(self.names)))
        return {
            query: {
                name: float(score) for name, score in zip(self.names, row, strict=True) if score > 0.5 or name == query
            }
            for query, row in zip(queries["id"], scores, strict=True)
        }


def predicted(model: ModernRankCrossEncoder, queries: list[str], texts: list[str], **options: Any) -> Any:
    batches = [
        [{"text": column[start : start + 2]} for start in range(0, len(column), 2)] for column in (queries, texts)
    ]
    return model.predict(*batches, task_metadata=None, hf_split="test", hf_subset="default", **options)


def test_it_is_a_cross_encoder_of_mteb(demo: Path, model: Reranker) -> None:
    for source in (str(demo), demo, model, AsyncReranker(model)):
        ours = ModernRankCrossEncoder(source)
        assert isinstance(ours, CrossEncoderProtocol)
        assert not isinstance(ours, SearchProtocol)
        assert ours.mteb_model_meta.name == "modernrank/demo"
        assert ours.mteb_model_meta.experiment_kwargs["precision"] == "fp32"


def test_scores_are_the_logits_of_reranker(model: Reranker, documents: list[str]) -> None:
    queries = ["play music", "draw charts"] * (len(documents) // 2)
    pairs = list(zip(queries, documents, strict=True))

    scores = predicted(ModernRankCrossEncoder(model), queries, documents, batch_size=2, show_progress_bar=True)

    assert scores.tolist() == model.score(pairs).tolist()
    assert predicted(ModernRankCrossEncoder(model), [], []).shape == (0,)


def test_a_reranking_task_has_the_figures_of_modernrank_eval(
    demo: Path, data: EvaluationSet, reranking: AbsTaskRetrieval, tmp_path: Path
) -> None:
    cache = mteb.ResultCache(tmp_path)

    results = mteb.evaluate(ModernRankCrossEncoder(demo), reranking, cache=cache)

    rows = compare_artifacts(data, [demo], precisions=["fp32"])
    scores = results[0].scores["test"][0]
    assert scores["ndcg_at_10"] == pytest.approx(rows[1].estimates["nDCG@10"].mean, abs=1e-5)
    assert scores["map_at_1000"] == pytest.approx(rows[1].estimates["MAP"].mean, abs=1e-5)
    again = mteb.evaluate(ModernRankCrossEncoder(demo), reranking, cache=cache, overwrite_strategy="only-cache")
    assert again[0].get_score() == results[0].get_score()


def test_a_retrieval_task_is_ranked_behind_a_first_stage_and_as_a_folder(
    demo: Path, retrieval: AbsTaskRetrieval, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mteb.evaluate(AtRandom(), retrieval, cache=None, prediction_folder=tmp_path / "predictions")
    with pytest.raises(ValueError, match="top_ranked"):
        mteb.evaluate(ModernRankCrossEncoder(demo), retrieval, cache=None)

    folder = write_folder(retrieval, tmp_path / "predictions", tmp_path / "beir", top_k=30)
    behind = retrieval.convert_to_reranking(tmp_path / "predictions", top_k=30)
    results = mteb.evaluate(ModernRankCrossEncoder(demo), behind, cache=None)

    assert main(["eval", str(demo), "--beir", str(folder), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["results"]["demo fp32"]["nDCG@10"]["mean"] == pytest.approx(results[0].get_score(), abs=1e-5)
    written = read_folder(folder)
    assert all(len(names) == 30 for names in written.candidates.values())
    assert set(written.documents) == {name for names in written.candidates.values() for name in names} | {
        name for grades in written.qrels.values() for name in grades
    }


def test_a_folder_leaves_out_a_querys_own_document_where_the_task_does(
    retrieval: AbsTaskRetrieval, tmp_path: Path
) -> None:
    retrieval.ignore_identical_ids = True
    mteb.evaluate(AtRandom(), retrieval, cache=None, prediction_folder=tmp_path / "predictions")

    folder = write_folder(retrieval, tmp_path / "predictions", tmp_path / "beir", top_k=5000)

    candidates = read_folder(folder).candidates
    assert len(candidates) == 20
    assert all(query not in names for query, names in candidates.items())


def test_a_judged_document_that_is_not_in_the_corpus_still_counts(retrieval: AbsTaskRetrieval, tmp_path: Path) -> None:
    retrieval.load_data()
    qrels = retrieval.dataset["default"]["test"]["relevant_docs"]
    query = next(iter(qrels))
    qrels[query]["nowhere"] = 1
    mteb.evaluate(AtRandom(), retrieval, cache=None, prediction_folder=tmp_path / "predictions")

    written = read_folder(write_folder(retrieval, tmp_path / "predictions", tmp_path / "beir"))

    assert written.qrels[query]["nowhere"] == 1
    assert written.documents["nowhere"] == ""


def test_wrong_splits_and_missing_predictions_are_refused(retrieval: AbsTaskRetrieval, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_folder(retrieval, tmp_path, tmp_path / "beir")
    mteb.evaluate(AtRandom(), retrieval, cache=None, prediction_folder=tmp_path / "predictions")
    with pytest.raises(InputError, match="dev.*test"):
        write_folder(retrieval, tmp_path / "predictions", tmp_path / "beir", split="dev")


def test_thousands_of_pairs_and_many_callers(model: Reranker, documents: list[str]) -> None:
    ours = ModernRankCrossEncoder(model)
    texts = [f"{number} {documents[number % len(documents)]}" for number in range(3000)]
    queries = ["play music", "draw charts"]

    with ThreadPoolExecutor(len(queries)) as threads:
        found = list(threads.map(lambda query: predicted(ours, [query] * len(texts), texts), queries))

    for query, scores in zip(queries, found, strict=True):
        assert scores.tolist() == model.score([(query, text) for text in texts]).tolist()


def test_wrong_input_is_refused_by_name(demo: Path, model: Reranker, several_labels: Reranker) -> None:
    with pytest.raises(InputError, match="label"):
        ModernRankCrossEncoder(several_labels)
    with pytest.raises(InputError, match="threads"):
        ModernRankCrossEncoder(model, threads=1)
    with pytest.raises(InputError, match="mps"):
        ModernRankCrossEncoder(demo, device="mps")
    with pytest.raises(InputError, match="precision"):
        predicted(ModernRankCrossEncoder(model), ["a"], ["b"], precision="int8")
    with pytest.raises(ClosedError):
        ModernRankCrossEncoder(AsyncReranker(str(demo)))


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page(reranking: AbsTaskRetrieval) -> None:
    names = run_examples("docs/integrations/evaluation.md", "MTEB", {"task": reranking})

    assert names["results"].model_name == "modernrank/demo"


@pytest.mark.usefixtures("in_folder")
def test_the_script_of_the_page_writes_the_folders(
    retrieval: AbsTaskRetrieval, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a first stage and a task that are here, in place of those on the hub."""
    monkeypatch.setattr(mteb, "get_model", lambda name: AtRandom())
    monkeypatch.setattr(mteb, "get_task", lambda name: retrieval)

    run_examples("docs/integrations/evaluation.md", "BEIR rows of a model card")

    assert {len(names) for names in read_folder(Path("beir/SciFact")).candidates.values()} == {100}

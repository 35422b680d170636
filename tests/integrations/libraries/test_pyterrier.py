"""PyTerrier's pipelines and experiments."""

from __future__ import annotations

import os
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pyterrier as pt
import pytest

from modernrank import InputError, RankedDocument, Reranker, TruncationWarning
from modernrank.evaluation.compare import compare_artifacts
from modernrank.evaluation.formats import read_folder
from modernrank.integrations.evaluation.pyterrier import ModernRankReranker
from support.pages import run_examples

pytestmark = pytest.mark.integrations

QUERY = "play music"


@pytest.fixture(scope="module")
def transformer(model: Reranker) -> ModernRankReranker:
    return ModernRankReranker(model)


def frame(texts: list[str | None], qid: str = "1", query: str = QUERY) -> pd.DataFrame:
    rows = [(qid, query, f"d{index}", text) for index, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text"])


def test_it_has_the_ranking(
    transformer: ModernRankReranker, documents: list[str], logits: list[RankedDocument]
) -> None:
    given = frame(list(documents)).assign(score=1.0, rank=0)

    out = transformer(given)

    ranked = out.sort_values("rank")
    assert list(zip(ranked["docno"], ranked["score"], strict=True)) == [(f"d{r.index}", r.score) for r in logits]
    assert ranked["rank"].tolist() == list(range(len(documents)))
    assert given["score"].eq(1.0).all()


@pytest.fixture
def without_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTerrier's home with an index of its pages that has no page: it would be downloaded otherwise."""
    index = tmp_path / "documentation" / "objects.inv"
    index.parent.mkdir()
    index.write_bytes(b"# Sphinx inventory version 2\n# Project: none\n# Version: 0\n# zlib\n" + zlib.compress(b""))
    os.utime(index, (0, 0))  # one of today would be compared with the server's
    monkeypatch.setenv("PYTERRIER_HOME", str(tmp_path))


@pytest.mark.usefixtures("without_documentation")
def test_it_passes_the_standard_test_of_transformers(transformer: ModernRankReranker) -> None:
    case = pt.testing.transformer_test_class(lambda: transformer)
    case.setUpClass()
    for test in (name for name in dir(case) if name.startswith("test_")):
        result = case(test).run()
        assert result is not None and result.wasSuccessful(), (result.errors, result.failures)
    assert pt.inspect.transformer_outputs(transformer, ["qid", "query", "docno", "text"]) == [
        "qid", "query", "docno", "text", "score", "rank",
    ]  # fmt: skip


def test_queries_are_ranked_apart(transformer: ModernRankReranker, model: Reranker, documents: list[str]) -> None:
    both = pd.concat([frame(list(documents)), frame(list(documents), "2", "draw charts")])

    out = transformer(both)

    for query, group in out.groupby("query"):
        ranked = group.sort_values("rank")
        assert ranked["docno"].tolist() == [f"d{r.index}" for r in model.rank(query, documents)]


def test_nothing_missing_texts_and_duplicates(transformer: ModernRankReranker, model: Reranker) -> None:
    assert len(transformer(frame([]))) == 0
    given = frame([None, "a", "a"])
    given["docno"] = "same"
    out = transformer(given)
    assert out["score"].tolist() == model.score([(QUERY, ""), (QUERY, "a"), (QUERY, "a")]).tolist()
    assert sorted(out["rank"]) == [0, 1, 2]
    assert transformer(frame([float("nan")]))["score"].tolist() == model.score([(QUERY, "")]).tolist()  # type: ignore[list-item]


def test_thousands_of_rows_and_many_callers(transformer: ModernRankReranker, model: Reranker, many: list[str]) -> None:
    queries = [QUERY, "draw charts"]
    with ThreadPoolExecutor(len(queries)) as threads:
        found = list(threads.map(lambda query: transformer(frame(list(many), query=query)), queries))
    for query, out in zip(queries, found, strict=True):
        assert out["score"].tolist() == model.score([(query, text) for text in many]).tolist()


def test_cuts_are_reported_and_wrong_input_is_refused(
    transformer: ModernRankReranker, several_labels: Reranker
) -> None:
    with pytest.warns(TruncationWarning):
        transformer(frame(["music " * 1000]))
    with pytest.raises(pt.validate.InputValidationError, match="text"):
        transformer(frame(["a"]).drop(columns="text"))
    with pytest.raises(InputError, match="int"):
        transformer(frame([1]))  # type: ignore[list-item]
    with pytest.raises(InputError, match="label"):
        ModernRankReranker(several_labels)


def test_an_experiment_has_the_figures_of_modernrank_eval(
    transformer: ModernRankReranker, demo: Path, some_of_the_evaluation: Path
) -> None:
    data = read_folder(some_of_the_evaluation)
    rows = [
        (query, data.queries[query], name, data.documents[name], -float(place))
        for query, names in data.candidates.items()
        for place, name in enumerate(names)
    ]
    first = pt.Transformer.from_df(
        pt.model.add_ranks(pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"]))
    )
    topics = pd.DataFrame([(query, data.queries[query]) for query in data.queries], columns=["qid", "query"])
    judged = [(query, name, grade) for query, grades in data.qrels.items() for name, grade in grades.items()]
    qrels = pd.DataFrame(judged, columns=["qid", "docno", "label"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pt.Experiment([first, first >> transformer], topics, qrels, ["ndcg_cut_10"])
    expected = [row.estimates["nDCG@10"].mean for row in compare_artifacts(data, [demo], precisions=["fp32"])]

    assert table["ndcg_cut_10"].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.usefixtures("in_folder")
def test_the_example_of_the_page() -> None:
    run_examples("docs/integrations/evaluation.md", "PyTerrier")

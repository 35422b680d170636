"""The candidates of each judged query are ranked once, as ``Reranker.rank`` ranks them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from modernrank import InputError, Reranker
from modernrank.evaluation.formats import EvaluationSet
from modernrank.evaluation.rank_candidates import rerank
from modernrank.evaluation.trec_run import RunFile


def test_the_order_is_that_of_rank(data: EvaluationSet, reranker: Reranker) -> None:
    rankings = rerank(data, reranker)
    names = data.candidates["q1"]
    ranked = reranker.rank(data.queries["q1"], [data.documents[name] for name in names])
    assert rankings["q1"] == [(names[document.index], document.score) for document in ranked]


def test_only_judged_queries_are_ranked(data: EvaluationSet, reranker: Reranker) -> None:
    assert set(rerank(data, reranker)) == {"q1", "q2"}


def test_ties_keep_the_order_of_the_first_stage(data: EvaluationSet, reranker: Reranker) -> None:
    same = dataclasses.replace(data, documents=dict.fromkeys(data.documents, "the same text"))
    assert [name for name, _ in rerank(same, reranker)["q2"]] == ["d5", "d4", "d3"]


def test_progress_counts_the_candidates(data: EvaluationSet, reranker: Reranker) -> None:
    counts: list[int] = []
    rerank(data, reranker, advance=counts.append)
    assert sorted(counts) == [3, 4]


def test_a_run_that_was_stopped_is_resumed(data: EvaluationSet, reranker: Reranker, tmp_path: Path) -> None:
    run_file = RunFile(tmp_path / "tiny.run", {})
    whole = rerank(data, reranker, run_file)
    complete = run_file.path.read_text()
    run_file.path.write_text(complete[:-10])
    assert rerank(data, reranker, run_file) == whole
    assert run_file.path.read_text() == complete


def test_known_rankings_are_not_computed_again(data: EvaluationSet, artifacts: Path, tmp_path: Path) -> None:
    run_file = RunFile(tmp_path / "tiny.run", {})
    with Reranker.load(artifacts / "tiny") as reranker:
        whole = rerank(data, reranker, run_file)
    assert rerank(data, reranker, run_file) == whole  # it is closed, and would refuse to score


def test_a_model_of_several_labels_ranks_nothing(data: EvaluationSet, artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny-cls") as reranker, pytest.raises(InputError) as raised:
        rerank(data, reranker)
    assert len(raised.value.details["labels"]) == 3

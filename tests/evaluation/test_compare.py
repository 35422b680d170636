"""Contenders side by side: names from the manifest, figures beside the first stage, and mistakes before any work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from modernrank import ArtifactError, InputError, Reranker
from modernrank.evaluation.compare import FIRST_STAGE, compare_artifacts, compare_rankings
from modernrank.evaluation.formats import EvaluationSet
from modernrank.evaluation.metrics import MEASURES, by_query
from modernrank.evaluation.rank_candidates import rerank

BEST = {"q1": ["d1", "d3", "d0", "d2"], "q2": ["d3", "d5", "d4"]}


def test_figures_are_beside_those_of_the_first(data: EvaluationSet) -> None:
    first, best = compare_rankings(data, {"first": data.candidates, "best": BEST})
    assert best.estimates["MRR@10"].mean == 1.0
    assert best.changes["MRR@10"] == pytest.approx(1 / (5 / 12) - 1)
    assert best.p_values["MRR@10"] == 0.5  # both of two queries are better, as in two of four assignments of signs
    assert first.estimates["MRR@10"].mean == pytest.approx(5 / 12)


def test_the_first_has_nothing_to_compare_with(data: EvaluationSet) -> None:
    first, _ = compare_rankings(data, {"first": data.candidates, "best": BEST})
    assert first.changes == {}
    assert first.p_values == {}


def test_a_change_from_0_is_undefined(data: EvaluationSet) -> None:
    _, best = compare_rankings(data, {"nothing": {}, "best": BEST})
    assert best.changes["MAP"] is None


def test_a_single_query_has_no_p_value(data: EvaluationSet) -> None:
    single = dataclasses.replace(data, qrels={"q1": data.qrels["q1"]})
    _, best = compare_rankings(single, {"first": data.candidates, "best": BEST})
    assert best.p_values == dict.fromkeys(MEASURES)


def test_an_artifact_is_compared_with_the_first_stage(data: EvaluationSet, artifacts: Path, reranker: Reranker) -> None:
    first, tiny = compare_artifacts(data, [artifacts / "tiny"])
    assert first.name == FIRST_STAGE
    assert tiny.name == "tiny fp32"
    ranked = {query: [name for name, _ in ranking] for query, ranking in rerank(data, reranker).items()}
    assert tiny.estimates["nDCG@10"].mean == pytest.approx(by_query(data, ranked)["nDCG@10"].mean())


@pytest.mark.parametrize(("passed", "precision"), [(True, "int8"), (False, "fp32")])
def test_a_name_has_the_precision_that_auto_takes(
    data: EvaluationSet, artifact: Path, passed: bool, precision: str
) -> None:
    """The manifest offers the float32 graph a second time, as int8."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["graphs"].append({**manifest["graphs"][0], "precision": "int8"})
    manifest["quality"] = {"int8": {"passed": passed}}
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    assert compare_artifacts(data, [artifact])[1].name == f"tiny {precision}"
    with Reranker.load(artifact) as reranker:
        assert reranker.info.precision == precision


def test_rankings_are_kept_as_runs(data: EvaluationSet, artifacts: Path, tmp_path: Path) -> None:
    compare_artifacts(data, [artifacts / "tiny"], runs=tmp_path / "runs", provider="cpu", threads=1)
    kept = (tmp_path / "runs" / "tiny-fp32.run").read_text().splitlines()
    assert len(kept) == 7
    assert kept[0].split()[1::2] == ["Q0", "1", "tiny-fp32"]


def test_runs_with_another_limit_are_refused(data: EvaluationSet, artifacts: Path, tmp_path: Path) -> None:
    compare_artifacts(data, [artifacts / "tiny"], runs=tmp_path)
    with pytest.raises(InputError) as raised:
        compare_artifacts(data, [artifacts / "tiny"], runs=tmp_path, max_length=32)
    assert raised.value.details["differing"] == ["max_length"]


def test_two_contenders_of_one_name_are_refused(data: EvaluationSet, artifacts: Path) -> None:
    with pytest.raises(InputError) as raised:
        compare_artifacts(data, [artifacts / "tiny"], precisions=["auto", "fp32"])
    assert raised.value.details["value"] == "tiny fp32"


def refused(kind: type[Exception], data: EvaluationSet, artifacts: list[Path], runs: Path, **options: object) -> None:
    """The call is refused, and no run was begun."""
    with pytest.raises(kind):
        compare_artifacts(data, artifacts, runs=runs, **options)  # type: ignore[arg-type]
    assert not runs.exists()


def test_mistakes_are_found_before_any_work(data: EvaluationSet, artifacts: Path, tmp_path: Path) -> None:
    tiny, runs = artifacts / "tiny", tmp_path / "runs"
    refused(InputError, data, [tiny, artifacts / "tiny-cls"], runs)
    refused(InputError, data, [tiny], runs, max_length=100_000)
    refused(InputError, data, [tiny], runs, max_length=0)
    refused(InputError, data, [tiny], runs, provider="abacus")
    refused(InputError, data, [tiny], runs, long_documents="abacus")
    refused(InputError, data, [tiny], runs, precisions=["fp32", "int9"])
    refused(ArtifactError, data, [tiny], runs, precisions=["fp32", "int8"])
    refused(ArtifactError, data, [tiny, tmp_path / "nowhere"], runs)

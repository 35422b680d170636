"""The quality that a precision loses decides whether ``precision="auto"`` takes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from modernrank import ArtifactError, InputError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.cli import main
from modernrank.evaluation.agreement import Fidelity, measure
from modernrank.evaluation.formats import read_folder
from modernrank.evaluation.rank_candidates import rerank
from modernrank.export import export_checkpoint
from modernrank.export.quality_gate import MAX_LOSS, MIN_AGREEMENT, Quality
from support.checkpoints import DEMO, checkpoint


def quality(kendall: float = 0.99, exact: float | None = None, ndcg: float | None = None) -> Quality:
    return Quality("here", Fidelity(100, 10, 0.01, 0.99, kendall, 1.0), exact, ndcg)


def test_both_bounds_decide() -> None:
    assert quality().passed
    assert quality().loss is None
    assert not quality(kendall=MIN_AGREEMENT - 0.001).passed
    assert quality(exact=0.8, ndcg=0.8 * (1 - MAX_LOSS) + 1e-9).passed
    assert not quality(exact=0.8, ndcg=0.8 * (1 - MAX_LOSS) - 1e-9).passed
    assert quality(exact=0.8, ndcg=0.9).passed  # a gain is no loss
    assert not quality(kendall=float("nan")).passed


def test_the_summary_holds_verdict_figures_and_bounds() -> None:
    summary = quality(exact=0.8, ndcg=0.79).summary
    for fact in ("NOT PASSED", "0.7900", "-1.25%", "0.8000", "-0.5%", "0.9900", "0.95", "10 queries", "100 pairs"):
        assert fact in summary


def test_auto_is_exact_where_int8_has_not_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiny checkpoint has random weights: its scores of texts are so close that int8 swaps many."""
    export_checkpoint(checkpoint("tiny"), tmp_path / "both", precision=["fp32", "int8"])
    kept = Artifact.open(tmp_path / "both").manifest.quality["int8"]
    assert not kept["passed"]
    assert kept["ndcg10"] == {}
    assert kept["fidelity"]["kendall"] < MIN_AGREEMENT
    with Reranker.load(tmp_path / "both") as reranker:
        assert reranker.info.precision == "fp32"
    with Reranker.load(tmp_path / "both", precision="int8") as reranker:
        assert reranker.info.precision == "int8"
    assert main(["info", str(tmp_path / "both")]) == 0
    assert "int8: NOT PASSED" in capsys.readouterr().out


def test_int8_alone_that_has_not_passed_must_be_asked_for(artifacts: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        Reranker.load(artifacts / "tiny-int8")
    assert refused.value.details["precision"] == "auto"
    assert refused.value.details["available"] == [("int8", "ort-cpu")]


def test_auto_takes_int8_that_has_passed(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Artifact.open(demo).manifest.quality["int8"]
    assert kept["passed"]
    assert kept["source"] == "some"
    assert kept["fidelity"]["queries"] == 20
    assert kept["ndcg10"]["loss"] == pytest.approx(1 - kept["ndcg10"]["found"] / kept["ndcg10"]["exact"])
    with Reranker.load(demo) as reranker:
        assert reranker.info.precision == "int8"
    assert main(["info", str(demo)]) == 0
    assert "int8: passed" in capsys.readouterr().out


def test_documents_that_tie_are_no_order_to_keep() -> None:
    pairs = [("q", f"d{i}") for i in range(4)] + [("tie", f"d{i}") for i in range(4)]
    exact = np.array([1, 2, 3, 4, 5, 5, 5, 5], np.float32)
    assert measure(pairs, exact, exact * 2).kendall == 1
    assert measure(pairs, exact, exact).queries == 1
    assert measure(pairs, exact, np.ones(8, np.float32)).kendall == 0
    with pytest.raises(InputError):
        measure(pairs[4:], exact[4:], exact[4:])


@pytest.mark.slow
def test_a_loss_of_ndcg_keeps_auto_exact(demo: Path, some_of_the_evaluation: Path, tmp_path: Path) -> None:
    """Judgements under which the order of float32 is the right one, to the last place, and int8's therefore worse."""
    data = read_folder(some_of_the_evaluation)
    orders = {}
    for precision in ("fp32", "int8"):
        with Reranker.load(demo, precision=precision) as reranker:
            orders[precision] = rerank(data, reranker, None, "truncate", lambda pairs: None)
    lines = ["query-id\tcorpus-id\tscore"]
    for query in data.judged:
        exact, int8 = ([name for name, _ in orders[precision][query]] for precision in ("fp32", "int8"))
        moved = [a for a, b in zip(exact, int8, strict=True) if a != b]
        if moved:  # the document that int8 takes from its place is the only relevant one
            lines.append(f"{query}\t{moved[0]}\t1")
    assert len(lines) > 1
    folder = tmp_path / "unkind"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "candidates.run"):
        (folder / name).write_bytes((some_of_the_evaluation / name).read_bytes())
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    manifest = export_checkpoint(DEMO, tmp_path / "out", precision=["fp32", "int8"], evaluation=folder)
    assert manifest.quality["int8"]["ndcg10"]["loss"] > MAX_LOSS
    assert manifest.quality["int8"]["fidelity"]["kendall"] > MIN_AGREEMENT
    assert manifest.auto_precisions() == ["fp32"]


def test_an_evaluation_set_that_cannot_be_used_leaves_nothing_behind(
    tmp_path: Path, some_of_the_evaluation: Path
) -> None:
    with pytest.raises(InputError, match="nowhere"):
        export_checkpoint(checkpoint("tiny"), tmp_path / "out", precision="int8", evaluation=tmp_path / "nowhere")
    nothing = tmp_path / "nothing"
    shutil.copytree(some_of_the_evaluation, nothing)
    lines = (nothing / "qrels" / "test.tsv").read_text().splitlines()
    (nothing / "qrels" / "test.tsv").write_text("\n".join(line[:-1] + "0" for line in lines[1:]))
    with pytest.raises(InputError) as refused:
        export_checkpoint(checkpoint("tiny"), tmp_path / "out", precision="int8", evaluation=nothing)
    assert refused.value.details["path"] == nothing
    assert not (tmp_path / "out").exists()

"""Queries with judgements: every file format and every way that it can be wrong; figures, runs, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modernrank import InputError, Reranker
from modernrank.cli import main
from modernrank.evaluation.formats import EvaluationSet, read_files, read_folder
from modernrank.evaluation.metrics import by_query, chance_of_difference, estimate
from modernrank.evaluation.rank_candidates import RunFile, rerank

QUERIES = [("q1", "a licence for the work"), ("q2", "may I change it?"), ("q3", "no one judged this")]
DOCUMENTS = [(f"d{i}", f"document {i} of the work " * (1 + i)) for i in range(6)]
FOUND = {"q1": ["d0", "d1", "d2", "d3"], "q2": ["d5", "d4", "d3"], "q3": ["d0", "d1"]}
GRADES = {"q1": {"d1": 2, "d3": 1, "d5": 1}, "q2": {"d3": 1, "d0": 0}}


def write_lines(path: Path, lines: list[object]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """In BEIR's layout, with candidates."""
    out = tmp_path / "set"
    write_lines(out / "queries.jsonl", [{"_id": name, "text": text} for name, text in QUERIES])
    write_lines(out / "corpus.jsonl", [{"_id": name, "title": "", "text": text} for name, text in DOCUMENTS])
    judged = [f"{query}\t{name}\t{grade}" for query, grades in GRADES.items() for name, grade in grades.items()]
    write_lines(out / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *judged])
    run = [f"{q} Q0 {name} {place} {-place} bm25" for q, names in FOUND.items() for place, name in enumerate(names, 1)]
    write_lines(out / "candidates.run", run[::-1])  # the rank counts, not the order of the lines
    return out


@pytest.fixture
def data(folder: Path) -> EvaluationSet:
    return read_folder(folder)


def test_a_beir_folder_and_single_files_say_the_same(folder: Path, data: EvaluationSet, tmp_path: Path) -> None:
    assert (data.candidates, data.qrels) == (FOUND, GRADES)
    queries = write_lines(tmp_path / "queries.tsv", [f"{name}\t{text}" for name, text in QUERIES])
    judged = [f"{query} 0 {name} {grade}" for query, grades in GRADES.items() for name, grade in grades.items()]
    qrels = write_lines(tmp_path / "qrels.txt", judged)
    texts = dict(DOCUMENTS)
    pairs = [
        {"query_id": query, "document_id": name, "document": texts[name]} for query in FOUND for name in FOUND[query]
    ]
    candidates = write_lines(tmp_path / "candidates.jsonl", pairs)
    same = read_files(queries, candidates, qrels)
    assert (same.queries, same.candidates, same.qrels) == (data.queries, data.candidates, data.qrels)
    assert same.documents == {name: text for name, text in DOCUMENTS if name in same.documents}
    assert "1 queries with candidates have no judgements and are left out (q3, ..)" in data.notes


def test_a_title_goes_before_the_text(folder: Path) -> None:
    lines = [{"_id": name, "title": "Title", "text": text} for name, text in DOCUMENTS]
    write_lines(folder / "corpus.jsonl", lines)
    assert read_folder(folder).documents["d0"] == f"Title {DOCUMENTS[0][1]}"


def test_figures_by_hand(data: EvaluationSet) -> None:
    values = by_query(data, FOUND)
    ideal = 2 + 1 / np.log2(3) + 1 / np.log2(4)
    assert values["nDCG@10"].tolist() == pytest.approx([(2 / np.log2(3) + 1 / np.log2(5)) / ideal, 1 / np.log2(4)])
    assert values["MRR@10"].tolist() == pytest.approx([1 / 2, 1 / 3])
    assert values["MAP"].tolist() == pytest.approx([(1 / 2 + 2 / 4 + 0) / 3, 1 / 3])


def test_a_judged_query_without_candidates_counts_as_nothing_and_is_told_of(folder: Path) -> None:
    lines = (folder / "candidates.run").read_text().splitlines()
    write_lines(folder / "candidates.run", [line for line in lines if not line.startswith("q2")])
    found = read_folder(folder)
    assert "1 judged queries have no candidates and count as 0 (q2, ..)" in found.notes
    assert by_query(found, found.candidates)["MRR@10"].tolist() == [0.5, 0.0]


def test_intervals_and_the_paired_test() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(200)
    better = np.minimum(1, before + 0.05 + 0.02 * rng.standard_normal(200))
    found = estimate(before)
    assert found.low < found.mean < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * before.std() / np.sqrt(200), rel=0.1)
    assert chance_of_difference(before, better) < 0.001
    assert chance_of_difference(before, before) == 1
    assert chance_of_difference(before, rng.permutation(before)) > 0.01


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("queries.jsonl", '{"_id": "q1", "text": "again"}', "line 4 of .*queries.jsonl: query 'q1' stands twice"),
        ("queries.jsonl", '{"_id": 5, "text": "x"}', "line 4 of .*: '_id' is not a string but int"),
        ("queries.jsonl", '{"text": "x"}', "line 4 of .* has no '_id'"),
        ("queries.jsonl", "{", "line 4 of .* is not JSON"),
        ("queries.jsonl", '{"_id": "q 4", "text": "x"}', "line 4 of .*: id 'q 4' is empty or holds white space"),
        ("queries.jsonl", '{"_id": "", "text": "x"}', "line 4 of .*: id '' is empty or holds white space"),
        ("corpus.jsonl", '{"_id": "d9", "text": "\\ud800"}', "line 7 of .* holds a lone surrogate"),
        ("corpus.jsonl", '{"_id": "d0", "text": "again"}', "line 7 of .*corpus.jsonl: document 'd0' stands twice"),
        ("corpus.jsonl", '{"_id": "d9", "title": 1, "text": "x"}', "line 7 of .*: 'title' is not a string"),
        ("candidates.run", "q1 Q0 d0 9 0.1 bm25", "line 10 of .*: query 'q1' has document 'd0' already"),
        ("candidates.run", "q9 Q0 d0 9 0.1 bm25", "line 10 of .* names query 'q9', which the queries have not"),
        ("candidates.run", "q1 Q0 d9 9 0.1 bm25", "line 10 of .* names document 'd9', which .*corpus.jsonl has not"),
        ("candidates.run", "q1 Q0 d4 9 0.1", "line 10 of .* has 5 columns; a line is QUERY Q0 DOCUMENT RANK SCORE TAG"),
        ("candidates.run", "q1 Q0 d4 2 0.1 bm25", "line 10 of .*: query 'q1' has a document at rank 2 already"),
        ("candidates.run", "q1 Q0 d4 nan 0.1 bm25", "line 10 of .*: rank 'nan' is not a number"),
        ("candidates.run", "q1 Q0 d4 first 0.1 bm25", "line 10 of .*: rank 'first' is not a number"),
        ("qrels/test.tsv", "q1\td9\t1", "line 7 of .*test.tsv judges document 'd9', which the corpus has not"),
        ("qrels/test.tsv", "q9\td1\t1", "line 7 of .* judges query 'q9', which the queries have not"),
        ("qrels/test.tsv", "q1\td1\t1", "line 7 of .*: judgement of query 'q1' and document 'd1' stands twice"),
        ("qrels/test.tsv", "q1\td0\tgood", "line 7 of .*: grade 'good' is not a number"),
        ("qrels/test.tsv", "q1\td0\tinf", "line 7 of .*: grade 'inf' is not a number"),
        ("qrels/test.tsv", "q1\td0\t0.5", "line 7 of .*: grade '0.5' is not a whole number"),
        ("qrels/test.tsv", "q1\td0", "line 7 of .* has 2 columns; a line is QUERY <tab> DOCUMENT <tab> GRADE .TREC's"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(folder: Path, file: str, line: str, message: str) -> None:
    with (folder / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(InputError, match=message):
        read_folder(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("queries.jsonl", "holds no queries"),
        ("corpus.jsonl", "holds no documents"),
        ("candidates.run", "holds no candidates"),
        ("qrels/test.tsv", "holds no judgements"),
    ],
)
def test_an_empty_file_is_refused(folder: Path, file: str, message: str) -> None:
    (folder / file).write_text("\n")
    with pytest.raises(InputError, match=message):
        read_folder(folder)


def test_judgements_need_no_names_above_them(folder: Path) -> None:
    """A first line is the names of columns only if it is no judgement."""
    qrels = folder / "qrels" / "test.tsv"
    lines = qrels.read_text().splitlines()[1:]
    write_lines(qrels, [lines[0] + ".0", *lines[1:]])
    assert read_folder(folder).qrels == GRADES
    write_lines(qrels, [lines[0].rpartition("\t")[0] + "\tgood", *lines[1:]])
    with pytest.raises(InputError, match="line 1 of .*: grade 'good' is not a number"):
        read_folder(folder)


def test_a_folder_without_candidates_says_what_to_give(folder: Path) -> None:
    (folder / "candidates.run").unlink()
    with pytest.raises(InputError, match=r"there is no .*candidates.run; give what a first stage .*--candidates"):
        read_folder(folder)


def test_one_query_and_no_relevant_candidate(folder: Path, artifacts: Path, tmp_path: Path) -> None:
    """Figures of 0 and tests of a single query are no trouble, and the JSON stays JSON."""
    write_lines(folder / "qrels" / "test.tsv", ["q1\td5\t1"])
    out = tmp_path / "figures.json"
    assert main(["eval", str(artifacts / "tiny"), "--beir", str(folder), "--json", str(out)]) == 0
    figures = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert figures["results"]["tiny fp32"]["MAP"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "change": None, "p": 1.0}


def test_candidates_that_no_judgement_is_about_are_refused(folder: Path) -> None:
    lines = (folder / "candidates.run").read_text().splitlines()
    write_lines(folder / "candidates.run", [line for line in lines if line.startswith("q3")])
    with pytest.raises(InputError, match="judges none of the 1 queries that .* has candidates for"):
        read_folder(folder)


def test_a_run_that_was_stopped_goes_on(data: EvaluationSet, reranker: Reranker, tmp_path: Path) -> None:
    whole = rerank(data, reranker, None, "truncate", lambda pairs: None)
    file = RunFile(tmp_path / "runs" / "a b.run", {"made": "once"})
    counts: list[int] = []
    assert rerank(data, reranker, file, "truncate", counts.append) == whole
    assert sorted(counts) == [3, 4]
    complete = file.path.read_text()
    lines = complete.splitlines(keepends=True)
    file.path.write_text("".join(lines[:5]) + lines[5][:7])  # one query, a line of the next, and a piece
    assert rerank(data, reranker, file, "truncate", lambda pairs: None) == whole
    assert file.path.read_text() == complete
    file.path.write_text(complete.replace(" 1 ", " 1 x", 1))  # not a score
    assert rerank(data, reranker, file, "truncate", lambda pairs: None) == whole
    file.path.write_text(complete.replace(" d0 ", " d5 ", 1))  # not the candidates: made again
    assert rerank(data, reranker, file, "truncate", lambda pairs: None) == whole
    with pytest.raises(InputError, match="is of another evaluation .made differ.; remove it"):
        rerank(data, reranker, RunFile(file.path, {"made": "twice"}), "truncate", lambda pairs: None)


def test_the_command_shows_contenders_side_by_side(
    folder: Path, artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    command = ["eval", str(artifacts / "tiny"), str(artifacts / "tiny-cls"), "--beir", str(folder)]
    assert main([*command[:2], *command[3:], "--runs", str(tmp_path / "runs"), "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("note: 1 queries with candidates have no judgements and are left out (q3, ..)\n2 queries;")
    assert "\nas found" in shown and "\ntiny fp32" in shown
    figures = json.loads(out.read_text())
    assert figures["queries"] == 2
    assert set(figures["results"]) == {"as found", "tiny fp32"}
    assert set(figures["results"]["tiny fp32"]["MAP"]) == {"mean", "low", "high", "change", "p"}
    kept = (tmp_path / "runs" / "tiny-fp32.run").read_text().splitlines()
    assert len(kept) == 7 and kept[0].split()[1::2] == ["Q0", "1", "tiny-fp32"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--queries, --candidates, --qrels missing"),
        (["--beir", "x", "--qrels", "y"], "--beir brings queries, corpus and qrels"),
        (["--beir", "nowhere"], "there is no folder nowhere with queries.jsonl"),
        (["--beir", "{folder}", "--precision", "auto", "--precision", "fp32"], "two contenders are called 'tiny fp32'"),
        (["--queries", "nowhere", "--candidates", "x", "--qrels", "y"], "cannot read nowhere"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, artifacts: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(folder=folder) for argument in arguments]
    assert main(["eval", str(artifacts / "tiny"), *given]) == 1
    assert message in capsys.readouterr().err


def test_a_model_of_several_labels_ranks_nothing(
    folder: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(artifacts / "tiny-cls"), "--beir", str(folder)]) == 1
    assert "rank needs a model of one label" in capsys.readouterr().err

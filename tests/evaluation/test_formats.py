"""Every file format is read, and a line that cannot be used is refused by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.evaluation.formats import EvaluationSet, read_files, read_folder

CANDIDATES = {"q1": ["d0", "d1", "d2", "d3"], "q2": ["d5", "d4", "d3"], "q3": ["d0", "d1"]}
QRELS = {"q1": {"d1": 2, "d3": 1, "d5": 1}, "q2": {"d3": 1, "d0": 0}}


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.fixture
def trec(data: EvaluationSet, tmp_path: Path) -> tuple[Path, Path, Path]:
    """The same set as single files: queries, candidates that hold their documents, and judgements of TREC."""
    queries = [f"{name}\t{text}" for name, text in data.queries.items()]
    candidates = [
        json.dumps({"query_id": query, "document_id": name, "document": data.documents[name]})
        for query, names in CANDIDATES.items()
        for name in names
    ]
    qrels = [f"{query} 0 {name} {grade}" for query, grades in QRELS.items() for name, grade in grades.items()]
    return (
        write_lines(tmp_path / "queries.tsv", queries),
        write_lines(tmp_path / "candidates.jsonl", candidates),
        write_lines(tmp_path / "qrels.txt", qrels),
    )


def test_a_beir_folder_is_read(data: EvaluationSet) -> None:
    assert data.queries["q2"] == "may I change it?"
    assert data.documents["d4"] == "source code"
    assert data.candidates == CANDIDATES
    assert data.qrels == QRELS


def test_single_files_are_read(trec: tuple[Path, Path, Path], data: EvaluationSet) -> None:
    same = read_files(*trec)
    assert same.queries == data.queries
    assert same.candidates == CANDIDATES
    assert same.qrels == QRELS
    assert same.documents.items() <= data.documents.items()


def test_candidates_can_come_from_another_file(folder: Path, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.run", ["q1 Q0 d5 1 0 tag"])
    assert read_folder(folder, other).candidates == {"q1": ["d5"]}


def test_a_title_is_put_before_the_text(folder: Path) -> None:
    titled = [json.dumps({**json.loads(line), "title": "Title"}) for line in lines_of(folder / "corpus.jsonl")]
    write_lines(folder / "corpus.jsonl", titled)
    assert read_folder(folder).documents["d4"] == "Title source code"


def test_judgements_need_no_column_names(folder: Path) -> None:
    """The first line is column names only if it cannot be a judgement."""
    qrels = folder / "qrels" / "test.tsv"
    write_lines(qrels, lines_of(qrels)[1:])
    assert read_folder(folder).qrels == QRELS


def test_a_first_judgement_with_a_bad_grade_is_not_taken_for_column_names(folder: Path) -> None:
    qrels = folder / "qrels" / "test.tsv"
    write_lines(qrels, ["q1\td1\tgood", *lines_of(qrels)[2:]])
    with pytest.raises(InputError) as raised:
        read_folder(folder)
    assert raised.value.details["line"] == 1


def test_a_grade_may_be_written_with_a_decimal_point(folder: Path) -> None:
    qrels = folder / "qrels" / "test.tsv"
    write_lines(qrels, [line.replace("d1\t2", "d1\t2.0") for line in lines_of(qrels)])
    assert read_folder(folder).qrels == QRELS


def test_the_hash_changes_with_the_files(folder: Path, data: EvaluationSet) -> None:
    assert read_folder(folder).sha256 == data.sha256
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "d9", "text": "new"}\n')
    assert read_folder(folder).sha256 != data.sha256


def test_queries_without_judgements_are_listed(data: EvaluationSet) -> None:
    assert data.unjudged == ["q3"]
    assert data.without_candidates == []
    assert data.judged_candidates == {"q1": CANDIDATES["q1"], "q2": CANDIDATES["q2"]}
    assert len(data.notes) == 1
    assert data.notes[0].startswith("1 query ")
    assert "q3" in data.notes[0]


def test_judged_queries_without_candidates_are_listed(folder: Path) -> None:
    run = folder / "candidates.run"
    write_lines(run, [line for line in lines_of(run) if line.startswith("q1")])
    data = read_folder(folder)
    assert data.without_candidates == ["q2"]
    assert data.judged == ["q1", "q2"]
    assert "q2" in data.notes[0]


def test_a_note_names_the_first_queries_only(data: EvaluationSet) -> None:
    names = [f"x{number}" for number in range(100)]
    many = EvaluationSet(data.queries, data.documents, {name: ["d0"] for name in names}, {}, "")
    assert many.unjudged == names
    assert many.notes[0].startswith("100 queries ")
    assert "x99" not in many.notes[0]


REFUSED_LINES = [
    ("queries.jsonl", '{"_id": "q1", "text": "again"}', 4, "q1"),
    ("queries.jsonl", '{"_id": 5, "text": "x"}', 4, "_id.* int"),
    ("queries.jsonl", '{"text": "x"}', 4, "_id"),
    ("queries.jsonl", "{", 4, "JSON"),
    ("queries.jsonl", '\n\n["q4"]', 6, "list"),
    ("queries.jsonl", '{"_id": "q 4", "text": "x"}', 4, "q 4"),
    ("queries.jsonl", '{"_id": "", "text": "x"}', 4, "''"),
    ("corpus.jsonl", '{"_id": "d9", "text": "\\ud800"}', 7, "ud800"),
    ("corpus.jsonl", '{"_id": "d0", "text": "again"}', 7, "d0"),
    ("corpus.jsonl", '{"_id": "d9", "title": 1, "text": "x"}', 7, "title.* int"),
    ("candidates.run", "q1 Q0 d0 9 0.1 bm25", 10, "d0.*q1"),
    ("candidates.run", "q9 Q0 d0 9 0.1 bm25", 10, "q9"),
    ("candidates.run", "q1 Q0 d9 9 0.1 bm25", 10, "d9"),
    ("candidates.run", "q1 Q0 d4 9 0.1", 10, "5 .*QUERY Q0 DOCUMENT RANK SCORE TAG"),
    ("candidates.run", "q1 Q0 d4 2 0.1 bm25", 10, "rank 2"),
    ("candidates.run", "q1 Q0 d4 nan 0.1 bm25", 10, "nan"),
    ("candidates.run", "q1 Q0 d4 first 0.1 bm25", 10, "first"),
    ("qrels/test.tsv", "q1\td9\t1", 7, "d9"),
    ("qrels/test.tsv", "q9\td1\t1", 7, "q9"),
    ("qrels/test.tsv", "q1\td1\t1", 7, "d1"),
    ("qrels/test.tsv", "q1\td0\tgood", 7, "good"),
    ("qrels/test.tsv", "q1\td0\tinf", 7, "inf"),
    ("qrels/test.tsv", "q1\td0\t0.5", 7, r"0\.5"),
    ("qrels/test.tsv", "q1\td0", 7, "QUERY <tab> DOCUMENT <tab> GRADE"),
]


@pytest.mark.parametrize(("file", "text", "line", "fact"), REFUSED_LINES)
def test_a_line_that_cannot_be_used_is_refused(folder: Path, file: str, text: str, line: int, fact: str) -> None:
    with (folder / file).open("a") as stream:
        stream.write(text + "\n")
    with pytest.raises(InputError, match=f"line {line} of .*{file}.*{fact}") as raised:
        read_folder(folder)
    assert raised.value.details["file"] == str(folder / file)
    assert raised.value.details["line"] == line


def test_a_line_that_is_not_utf_8_is_refused(folder: Path) -> None:
    with (folder / "candidates.run").open("ab") as stream:
        stream.write(b"\n\xff\n")
    with pytest.raises(InputError) as raised:
        read_folder(folder)
    assert raised.value.details["line"] == 11


def test_a_document_that_no_file_holds_is_refused(trec: tuple[Path, Path, Path], tmp_path: Path) -> None:
    queries, _, qrels = trec
    run = write_lines(tmp_path / "first.run", ["q1 Q0 d0 1 0 tag"])
    with pytest.raises(InputError, match="--corpus") as raised:
        read_files(queries, run, qrels)
    assert raised.value.details["value"] == "d0"


def test_a_document_with_two_texts_is_refused(trec: tuple[Path, Path, Path]) -> None:
    with trec[1].open("a") as stream:
        stream.write('{"query_id": "q2", "document_id": "d0", "document": "another text"}\n')
    with pytest.raises(InputError) as raised:
        read_files(*trec)
    assert raised.value.details["line"] == 10
    assert raised.value.details["value"] == "d0"


@pytest.mark.parametrize("file", ["queries.jsonl", "corpus.jsonl", "candidates.run", "qrels/test.tsv"])
def test_an_empty_file_is_refused(folder: Path, file: str) -> None:
    (folder / file).write_text("\n")
    with pytest.raises(InputError) as raised:
        read_folder(folder)
    assert raised.value.details == {"file": str(folder / file)}


@pytest.mark.parametrize("file", ["queries.jsonl", "corpus.jsonl", "candidates.run", "qrels/test.tsv"])
def test_a_missing_file_is_refused(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(InputError) as raised:
        read_folder(folder)
    assert raised.value.details["file"] == str(folder / file)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read_folder(tmp_path / "nowhere")
    assert raised.value.details["file"] == str(tmp_path / "nowhere")


def test_judgements_of_other_queries_are_refused(folder: Path) -> None:
    run = folder / "candidates.run"
    write_lines(run, [line for line in lines_of(run) if line.startswith("q3")])
    with pytest.raises(InputError) as raised:
        read_folder(folder)
    assert raised.value.details["file"] == str(folder / "qrels" / "test.tsv")


def test_a_grade_that_no_gain_can_hold_is_refused(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1e30\n")
    with pytest.raises(InputError) as caught:
        read_folder(folder)
    assert caught.value.details["field"] == "grade"

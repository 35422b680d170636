"""``modernrank score``, ``rank``, ``plan`` and ``classify``: what they read, what they print, what they refuse."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from modernrank import Reranker
from modernrank.cli import main

QUERY = "the terms"
DOCUMENTS = ["of the license", "of the contract " * 30, "größe"]


def lines(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


PAIRS = lines([{"query": QUERY, "document": document, "id": f"d{i}"} for i, document in enumerate(DOCUMENTS)])


@pytest.fixture
def tiny(artifacts: Path) -> str:
    return str(artifacts / "tiny")


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_text(PAIRS)
    return file


@pytest.fixture(scope="module")
def expected(artifacts: Path) -> list[float]:
    with Reranker.load(artifacts / "tiny") as reranker:
        return [float(score) for score in reranker.score([(QUERY, document) for document in DOCUMENTS])]


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put ``text`` into standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The JSON lines on standard output."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a command that exits with 1 and prints no result."""
    assert main([str(argument) for argument in arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("modernrank: ")
    assert len(output.err.splitlines()) == 1
    return output.err


def test_score_reads_and_writes_json_lines(
    tiny: str, expected: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, PAIRS)
    assert main(["score", tiny]) == 0
    records = printed(capsys)
    assert [record["id"] for record in records] == ["d0", "d1", "d2"]
    assert [record["score"] for record in records] == pytest.approx(expected, abs=1e-5)
    assert {frozenset(record) for record in records} == {frozenset({"id", "score"})}


def test_score_writes_a_file_and_reports_cuts(tiny: str, pairs_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    options = ["--max-length", "30", "--truncation", "document", "--activation", "sigmoid", "--window", "2"]
    assert main(["score", tiny, "--input", str(pairs_file), "--out", str(out), "--threads", "1", *options]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [("document_tokens_cut" in record) for record in records] == [False, True, False]
    assert all(0 < record["score"] < 1 for record in records)


def test_score_of_several_labels_is_a_list(
    artifacts: Path, pairs_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(artifacts / "tiny-cls"), "--input", str(pairs_file)]) == 0
    assert [len(record["score"]) for record in printed(capsys)] == [3, 3, 3]  # type: ignore[arg-type]


def test_plan_counts_pairs_and_batches(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, lines([{"query": QUERY, "document": "b"}] * 3))
    assert main(["plan", tiny, "--threads", "2"]) == 0
    assert capsys.readouterr().out.startswith("3 pairs of ")


@pytest.mark.parametrize("name", ["docs.txt", "docs.jsonl", "docs.NDJSON"])
def test_rank_reads_text_and_json_lines(
    tiny: str, expected: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text = "\n".join(DOCUMENTS) + "\n" if name.endswith(".txt") else lines([{"document": d} for d in DOCUMENTS])
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert main(["rank", tiny, "--query", QUERY, "--documents", str(tmp_path / name), "--top-k", "2", "--json"]) == 0
    records = printed(capsys)
    assert [record["score"] for record in records] == pytest.approx(sorted(expected, reverse=True)[:2], abs=1e-5)
    assert [DOCUMENTS[record["index"]].strip() for record in records] == [  # type: ignore[index]
        str(record["document"]).strip() for record in records
    ]


def test_rank_reads_json_lines_from_standard_input(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, lines([{"document": document} for document in DOCUMENTS]))
    assert main(["rank", tiny, "--query", QUERY, "--documents", "-", "--json"]) == 0
    assert {record["document"] for record in printed(capsys)} == set(DOCUMENTS)


def test_rank_prints_a_table(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs.txt").write_text("\n".join(DOCUMENTS), encoding="utf-8")
    assert main(["rank", tiny, "--query", QUERY, "--documents", str(tmp_path / "docs.txt")]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["rank", "score", "index", "document"]
    assert len(table) == 4


def test_rank_scores_parts_of_long_documents(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs.txt").write_text("word " * 300)
    command = ["rank", tiny, "--query", "q", "--documents", str(tmp_path / "docs.txt"), "--json", "--max-length", "64"]
    assert main([*command, "--long-documents", "chunk"]) == 0
    (whole,) = printed(capsys)
    assert "tokens_cut" not in whole
    assert main([*command, "--long-documents", "chunk", "--max-parts", "2"]) == 0
    (beginning,) = printed(capsys)
    assert int(str(beginning["tokens_cut"])) > 100


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{not json}\n", "line 1 of standard input"),
        ("\n[1]\n", "line 2 of standard input"),
        ('{"query": "a"}\n', '"document"'),
        ('{"query": "a", "document": null}\n', "NoneType"),
        ('{"query": "a", "document": "b", "score": 1}\n', '"score"'),
        ('{"query": "a", "document": "b", "document_tokens_cut": 1}\n', '"document_tokens_cut"'),
        ('{"query": "a", "document": "b", "x": NaN}\n', "NaN"),
        ('{"query": "a", "document": "\\ud800"}\n', "surrogate"),
    ],
)
def test_bad_lines_are_named(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, fact: str
) -> None:
    give(monkeypatch, text)
    assert fact in refused(capsys, "score", tiny)


def test_other_fields_are_kept_whatever_they_hold(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"id": "\ud800", "more": {"x": [1, None, "größe"]}, "long": 10**30}
    give(monkeypatch, lines([{"query": "a", "document": "b", **fields}]))
    assert main(["score", tiny]) == 0
    (record,) = printed(capsys)
    assert isinstance(record.pop("score"), float)
    assert record == fields


def test_a_byte_order_mark_is_no_part_of_the_text(
    tiny: str, expected: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfof the license\n")
    assert main(["rank", tiny, "--query", QUERY, "--documents", str(tmp_path / "marked.txt"), "--json"]) == 0
    (record,) = printed(capsys)
    assert record["document"] == "of the license"
    assert record["score"] == pytest.approx(expected[0], abs=1e-5)


def test_the_input_is_never_overwritten(tiny: str, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "score", tiny, "--input", pairs_file, "--out", pairs_file)
    assert pairs_file.read_text() == PAIRS


def test_bytes_that_are_no_utf8_are_refused(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"query": "a", "document": "\xff"}\n')
    assert "line 1 of" in refused(capsys, "score", tiny, "--input", tmp_path / "in.jsonl")


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["score", "/no/artifact"], "/no/artifact"),
        (["score", "TINY", "--input", "/no/file"], "No such file or directory"),
        (["score", "TINY", "--out", "/no/folder/out"], "/no/folder/out"),
        (["score", "TINY", "--max-length", "9000"], "8192"),
        (["score", "TINY", "--provider", "cpu", "--device", "0"], "devices"),
        (["rank", "TINY", "--query", "q", "--documents", "/dev/null"], "no documents"),
        (["rank", "TINY", "--query", "q", "--documents", "/dev/null", "--max-parts", "2"], "no documents"),
        (["rank", "TINY", "--query", "q", "--documents", "documents.json"], "documents.json"),
    ],
)
def test_refusals_are_one_line(
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    fact: str,
) -> None:
    (tmp_path / "documents.json").write_text('["a", "b"]')
    monkeypatch.chdir(tmp_path)
    assert fact in refused(capsys, *(tiny if argument == "TINY" else argument for argument in arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["score"],
        ["rank", "x"],
        ["score", "x", "--threads", "0"],
        ["score", "x", "--provider", "npu"],
        ["score", "x", "--max-length", "0"],
        ["score", "x", "--activation", "none"],
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_input_is_never_overwritten_by_any_name(tiny: str, pairs_file: Path, tmp_path: Path) -> None:
    (tmp_path / "hard.jsonl").hardlink_to(pairs_file)
    (tmp_path / "link.jsonl").symlink_to(pairs_file)
    for out in ("hard.jsonl", "link.jsonl", "in.jsonl"):
        assert main(["score", tiny, "--input", str(pairs_file), "--out", str(tmp_path / out)]) == 1
    assert pairs_file.read_text() == PAIRS


def test_redirected_input_is_never_overwritten(tiny: str, pairs_file: Path) -> None:
    with pairs_file.open() as stream:
        command = [sys.executable, "-m", "modernrank", "score", tiny, "--out", str(pairs_file)]
        done = subprocess.run(command, stdin=stream, capture_output=True, text=True)
    assert done.returncode == 1
    assert pairs_file.read_text() == PAIRS


@pytest.mark.parametrize("columns", ["1", "40", "100"])
def test_the_table_fits_into_any_terminal(
    tiny: str, tmp_path: Path, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    documents = tmp_path / "documents.txt"
    documents.write_text("word " * 20_000 + "\nshort\n")
    assert main(["rank", tiny, "--query", "a", "--documents", str(documents), "--max-length", "100"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_classify_labels_json_lines(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, out = str(artifacts / "tiny-cls"), tmp_path / "out.jsonl"
    texts = lines([{"text": text, "id": f"d{i}"} for i, text in enumerate(DOCUMENTS)])
    give(monkeypatch, texts)
    options = ["--top-k", "9", "--window", "2", "--max-length", "30", "--threads", "1"]
    assert main(["classify", artifact, "--out", str(out), *options]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["id"] for record in records] == ["d0", "d1", "d2"]
    assert ["tokens_cut" in record for record in records] == [False, True, False]
    with Reranker.load(artifact, threads=1, max_length=30) as model:
        expected = model.classify(DOCUMENTS, top_k=None, on_truncate=lambda cut: None)
    assert [record["labels"] for record in records] == [[vars(label) for label in labels] for labels in expected]
    give(monkeypatch, texts)
    assert main(["classify", artifact, "--activation", "logit"]) == 0
    assert [len(record["labels"]) for record in printed(capsys)] == [1, 1, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ('{"txt": "a"}', "text"),
        ('{"text": ["a", "b"]}', "list"),
        ('{"text": null}', "NoneType"),
        ('{"text": "a", "labels": 1}', "labels"),
        ('{"text": "a", "tokens_cut": 1}', "tokens_cut"),
    ],
)
def test_classify_refuses_a_line_by_its_number(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, fact: str
) -> None:
    give(monkeypatch, '{"text": "fine"}\n' + line + "\n")
    assert main(["classify", tiny]) == 1
    error = capsys.readouterr().err
    assert fact in error
    assert "line 2" in error


def test_classify_does_not_overwrite_its_input(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    assert main(["classify", tiny, "--input", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "in.jsonl")]) == 1
    assert (tmp_path / "in.jsonl").read_text() == '{"text": "a"}\n'


@pytest.mark.parametrize("command", ["score", "plan"])
def test_a_length_beyond_the_models_limit_is_refused(
    tiny: str, pairs_file: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, tiny, "--input", str(pairs_file), "--max-length", "8193"]) == 1
    error = capsys.readouterr().err
    assert "8192" in error
    assert "max_position_embeddings" in error
